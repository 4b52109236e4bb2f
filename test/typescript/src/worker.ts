import { NativeConnection, Worker } from '@temporalio/worker';
import * as activities from './activities';
import { address, taskQueue } from './config';

async function main(): Promise<void> {
  const connection = await NativeConnection.connect({ address });
  const worker = await Worker.create({ connection, taskQueue, activities, workflowsPath: require.resolve('./workflows') });
  await worker.run();
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
