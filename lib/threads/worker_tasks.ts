import { parentPort } from 'node:worker_threads';
import { MotError } from '../errors.js';

/** Kinds of tasks of a worker script, by name. */
export type TaskTypes = Record<string, { task: unknown; result: unknown }>;

/** A task on its way to a worker, and what comes back. */
export interface TaskRequest {
  kind: string;
  task: unknown;
}
export type TaskReply = { result: unknown } | { error: { code: string; message: string } } | { alive: true };

/** Time between two signs of life of a worker at work, ms. */
export const HEARTBEAT = 1000;

/** What does the tasks of each kind. */
export type TaskHandlers<Types> = {
  [Kind in keyof Types]: Types[Kind] extends { task: infer Task; result: infer Result }
    ? (task: Task) => Result | Promise<Result>
    : never;
};

/** Called once by a worker script: answers every TaskRequest with a result or error, and gives signs of life until then. */
export function serveTasks<Types>(handlers: TaskHandlers<Types>): void {
  const reply = (message: TaskReply): void => parentPort!.postMessage(message);
  parentPort!.on('message', ({ kind, task }: TaskRequest) => {
    const heart = setInterval(() => reply({ alive: true }), HEARTBEAT);
    void (async () => (handlers[kind as keyof Types] as (task: unknown) => unknown)(task))().then(
      (result) => {
        clearInterval(heart);
        reply({ result });
      },
      (error: unknown) => {
        clearInterval(heart);
        const code = error instanceof MotError ? error.code : 'ERR_INTERNAL';
        const message = error instanceof Error ? error.message : String(error);
        reply({ error: { code, message } });
      },
    );
  });
}
