import {
  ActivityCancellationType,
  CancellationScope,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  defineUpdate,
  executeChild,
  isCancellation,
  patched,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
  sleep,
  upsertMemo,
  workflowInfo,
} from '@temporalio/workflow';
import type * as activities from './activities';

const { flaky, greet, count } = proxyActivities<typeof activities>({
  startToCloseTimeout: '1 minute',
  retry: { initialInterval: '10 ms' },
});
const { endless } = proxyActivities<typeof activities>({
  startToCloseTimeout: '1 minute',
  heartbeatTimeout: '1 second',
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
});
const local = proxyLocalActivities<typeof activities>({ startToCloseTimeout: '1 minute', retry: { initialInterval: '10 ms' } });

export async function retried(): Promise<[number, number, number]> {
  return [await flaky(), await local.flaky(), await count(3)];
}

export async function timed(ms: number): Promise<number> {
  const before = Date.now();
  await sleep(ms);
  return Date.now() - before;
}

export const add = defineSignal<[number]>('add');
export const end = defineSignal('end');
export const sum = defineQuery<number>('sum');
export const multiply = defineUpdate<number, [number]>('multiply');

/** Adds up signals, is multiplied by updates, answers queries. */
export async function calculator(): Promise<number> {
  let total = 0;
  let done = false;
  setHandler(add, (n) => void (total += n));
  setHandler(end, () => void (done = true));
  setHandler(sum, () => total);
  setHandler(
    multiply,
    async (n) => {
      await greet('an activity in an update');
      return (total *= n);
    },
    {
      validator: (n) => {
        if (n === 0) {
          throw new Error('zero is not allowed');
        }
      },
    }
  );
  await condition(() => done);
  return total;
}

export async function child(name: string): Promise<string> {
  return `${await greet(name)} (child of ${workflowInfo().parent?.workflowId})`;
}

export async function parent(names: string[]): Promise<string[]> {
  return Promise.all(names.map((name) => executeChild(child, { args: [name] })));
}

export async function countdown(n: number, path: number[] = []): Promise<number[]> {
  path = [...path, n];
  if (n > 0) {
    await continueAsNew<typeof countdown>(n - 1, path);
  }
  return path;
}

/** When it is cancelled, its activity cleans up, and so does it, in a scope that nobody cancels. */
export async function cancellable(): Promise<string[]> {
  const log: string[] = [];
  try {
    log.push(await endless());
    await sleep('1 hour');
  } catch (err) {
    if (!isCancellation(err)) {
      throw err;
    }
    await CancellationScope.nonCancellable(async () => {
      log.push(await greet('cleaner'));
    });
  }
  return log;
}

export async function recorded(): Promise<boolean> {
  upsertMemo({ note: 'upserted' });
  return patched('a-change');
}

export async function failing(): Promise<void> {
  await sleep(1);
  throw new TypeError('a mistake in the workflow fails its task, not the workflow');
}
