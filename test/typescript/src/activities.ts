import { Context, CancelledFailure, activityInfo, heartbeat, sleep } from '@temporalio/activity';

/** Fails twice, then tells which attempt it is. */
export async function flaky(): Promise<number> {
  const { attempt } = activityInfo();
  if (attempt < 3) {
    throw new Error(`attempt ${attempt} fails`);
  }
  return attempt;
}

export async function greet(name: string): Promise<string> {
  return `Hello, ${name}!`;
}

/** Counts in its heartbeats; an attempt goes on where the last one failed. */
export async function count(to: number): Promise<number> {
  const { info } = Context.current();
  let n: number = info.heartbeatDetails ?? 0;
  n++;
  heartbeat(n);
  if (n < to) {
    throw new Error('again');
  }
  return n;
}

/** Runs until it is cancelled, then cleans up. */
export async function endless(): Promise<string> {
  try {
    for (;;) {
      heartbeat();
      await sleep(50);
    }
  } catch (err) {
    if (err instanceof CancelledFailure) {
      return 'cleaned up';
    }
    throw err;
  }
}
