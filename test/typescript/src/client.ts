import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import {
  Client,
  Connection,
  WithStartWorkflowOperation,
  WorkflowExecutionAlreadyStartedError,
  WorkflowUpdateFailedError,
} from '@temporalio/client';
import { address, taskQueue } from './config';
import * as workflows from './workflows';

type Test = (client: Client) => Promise<void>;

/** How often a test looks whether something has happened, in ms. */
const pollEvery = 50;

function options(): { taskQueue: string; workflowId: string } {
  return { taskQueue, workflowId: randomUUID() };
}

const tests: Record<string, Test> = {
  async 'activities are retried, also local ones, and remember their heartbeats'(client) {
    assert.deepEqual(await client.workflow.execute(workflows.retried, options()), [3, 3, 3]);
  },

  async 'a timer takes its time'(client) {
    const took = await client.workflow.execute(workflows.timed, { ...options(), args: [300] });
    assert.ok(took >= 300, `${took} ms`);
  },

  async 'signals, queries and updates'(client) {
    const handle = await client.workflow.start(workflows.calculator, options());
    await handle.signal(workflows.add, 2);
    await handle.signal(workflows.add, 5);
    assert.equal(await handle.query(workflows.sum), 7);
    assert.equal(await handle.executeUpdate(workflows.multiply, { args: [3] }), 21);
    await assert.rejects(handle.executeUpdate(workflows.multiply, { args: [0] }), (err: unknown) => {
      assert.ok(err instanceof WorkflowUpdateFailedError);
      assert.match(String(err.cause), /zero is not allowed/);
      return true;
    });
    const update = await handle.startUpdate(workflows.multiply, { args: [2], waitForStage: 'ACCEPTED' });
    assert.equal(await update.result(), 42);
    await handle.signal(workflows.end);
    assert.equal(await handle.result(), 42);
    assert.equal(await handle.query(workflows.sum), 42, 'of a closed workflow');
  },

  async 'signal with start and update with start'(client) {
    const o = options();
    await client.workflow.signalWithStart(workflows.calculator, { ...o, signal: workflows.add, signalArgs: [4] });
    const startWorkflowOperation = new WithStartWorkflowOperation(workflows.calculator, { ...o, workflowIdConflictPolicy: 'USE_EXISTING' });
    assert.equal(await client.workflow.executeUpdateWithStart(workflows.multiply, { args: [10], startWorkflowOperation }), 40);
    const handle = await startWorkflowOperation.workflowHandle();
    await handle.signal(workflows.end);
    assert.equal(await handle.result(), 40);
  },

  async 'children'(client) {
    const o = options();
    const result = await client.workflow.execute(workflows.parent, { ...o, args: [['Ada', 'Grace']] });
    assert.deepEqual(result, [`Hello, Ada! (child of ${o.workflowId})`, `Hello, Grace! (child of ${o.workflowId})`]);
  },

  async 'continue as new'(client) {
    assert.deepEqual(await client.workflow.execute(workflows.countdown, { ...options(), args: [2] }), [2, 1, 0]);
  },

  async 'cancellation reaches the activity and the workflow'(client) {
    const handle = await client.workflow.start(workflows.cancellable, options());
    for (;;) {
      const { raw } = await handle.describe();
      if (raw.pendingActivities?.some((a) => a.lastHeartbeatTime)) {
        break;
      }
      await setTimeout(pollEvery);
    }
    await handle.cancel();
    assert.deepEqual(await handle.result(), ['cleaned up', 'Hello, cleaner!']);
  },

  async 'memo, patch and list'(client) {
    const o = options();
    const handle = await client.workflow.start(workflows.recorded, { ...o, memo: { from: 'start' } });
    assert.equal(await handle.result(), true);
    const description = await handle.describe();
    assert.deepEqual(description.memo, { from: 'start', note: 'upserted' });
    assert.equal(description.status.name, 'COMPLETED');
    const found: string[] = [];
    for await (const info of client.workflow.list({ query: `WorkflowId = '${o.workflowId}' AND WorkflowType = 'recorded'` })) {
      found.push(info.workflowId);
    }
    assert.deepEqual(found, [o.workflowId]);
    assert.equal((await client.workflow.count(`WorkflowId = '${o.workflowId}'`)).count, 1);
  },

  async 'an id is used once, and termination ends a workflow whose task fails'(client) {
    const o = options();
    const handle = await client.workflow.start(workflows.failing, o);
    await assert.rejects(client.workflow.start(workflows.failing, o), WorkflowExecutionAlreadyStartedError);
    for (;;) {
      const history = await handle.fetchHistory();
      const failed = history.events?.find((e) => e.workflowTaskFailedEventAttributes);
      if (failed) {
        assert.match(String(failed.workflowTaskFailedEventAttributes?.failure?.message), /a mistake/);
        break;
      }
      await setTimeout(pollEvery);
    }
    await handle.terminate('enough');
    assert.equal((await handle.describe()).status.name, 'TERMINATED');
  },
};

async function main(): Promise<void> {
  const connection = await Connection.connect({ address });
  const client = new Client({ connection });
  const results = await Promise.allSettled(
    Object.entries(tests).map(async ([name, test]) => {
      try {
        await test(client);
        console.log(`ok    ${name}`);
      } catch (err) {
        console.log(`FAIL  ${name}\n${err instanceof Error ? err.stack : err}`, err instanceof Error ? err.cause : '');
        throw err;
      }
    })
  );
  await connection.close();
  console.log(`${results.length} tests`);
  process.exitCode = results.every((r) => r.status === 'fulfilled') ? 0 : 1;
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
