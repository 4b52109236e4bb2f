function required(name: string): string {
  const value = process.env[name];
  if (!value) {
    throw new Error(`set ${name}`);
  }
  return value;
}

export const address = required('PERDURE_ADDRESS');
export const taskQueue = required('PERDURE_TASK_QUEUE');
