import { parentPort } from 'node:worker_threads';
import { MotError } from '../errors.js';

/** Kinds of tasks of a worker script, by name. */
export type TaskTypes = Record<string, { task: unknown; result: unknown }>;

/** A task on its way to a worker, and what comes back. */
export interface TaskRequest {
  kind: string;
  task: unknown;
}
export type TaskReply = { result: unknown } | { error: { code: string; message: string } };

/** What does the tasks of each kind. */
export type TaskHandlers<Types> = {
  [Kind in keyof Types]: Types[Kind] extends { task: infer Task; result: infer Result }
    ? (task: Task) => Result | Promise<Result>
    : never;
};

/** Called once by a worker script: answers every TaskRequest with one TaskReply. */
export function serveTasks<Types>(handlers: TaskHandlers<Types>): void {
  parentPort!.on('message', ({ kind, task }: TaskRequest) => {
    void (async () => (handlers[kind as keyof Types] as (task: unknown) => unknown)(task))().then(
      (result) => parentPort!.postMessage({ result } satisfies TaskReply),
      (error: unknown) => {
        const code = error instanceof MotError ? error.code : 'ERR_INTERNAL';
        const message = error instanceof Error ? error.message : String(error);
        parentPort!.postMessage({ error: { code, message } } satisfies TaskReply);
      },
    );
  });
}
