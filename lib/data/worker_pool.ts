import { Worker } from 'node:worker_threads';
import { MotError, type MotErrorCode } from '../errors.js';
import type { TaskReply, TaskRequest } from './worker_tasks.js';

/** What waits for a worker. */
interface Job {
  request: TaskRequest;
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
}

/** Worker threads that run one script (see serveTasks) and take tasks in the order in which they come. */
export class WorkerPool<Types extends { [Kind in keyof Types]: { task: unknown; result: unknown } }> {
  readonly threads: number;
  readonly #workers: Worker[];
  readonly #idle: Worker[];
  readonly #queue: Job[] = [];
  readonly #running = new Map<Worker, Job>();
  #closed: Error | undefined;

  constructor(script: URL, threads: number) {
    this.threads = threads;
    // Flite runs under node:wasi, which is still called experimental.
    const execArgv = ['--disable-warning=ExperimentalWarning'];
    this.#workers = Array.from({ length: threads }, () => new Worker(script, { execArgv }));
    this.#idle = [...this.#workers];
    for (const worker of this.#workers) {
      worker.on('message', (reply: TaskReply) => this.#settle(worker, reply));
      worker.on('error', (cause) => {
        this.#abandon(new MotError('ERR_INTERNAL', `a worker thread failed: ${String(cause)}`, { cause }));
      });
    }
  }

  /** Runs a task on the next free worker. */
  run<Kind extends keyof Types & string>(kind: Kind, task: Types[Kind]['task']): Promise<Types[Kind]['result']> {
    return new Promise<unknown>((resolve, reject) => {
      if (this.#closed) {
        reject(this.#closed);
        return;
      }
      this.#queue.push({ request: { kind, task }, resolve, reject });
      this.#dispatch();
    });
  }

  /** Cuts a list into chunks, runs each as a task, and joins the lists that come back, in order. */
  async map<Kind extends keyof Types & string, Item, Result>(
    kind: Kind,
    items: readonly Item[],
    chunk: number,
    task: (items: Item[]) => Types[Kind]['task'],
    onDone: (items: number) => void,
  ): Promise<Result[]> {
    const parts: Promise<Result[]>[] = [];
    for (let begin = 0; begin < items.length; begin += chunk) {
      const part = items.slice(begin, begin + chunk);
      parts.push(
        this.run(kind, task(part)).then((result) => {
          onDone(part.length);
          return result as Result[];
        }),
      );
    }
    return (await Promise.all(parts)).flat();
  }

  /** Ends the workers; tasks that are not done are rejected. */
  async close(): Promise<void> {
    this.#abandon(new MotError('ERR_DISPOSED', 'the worker threads were stopped'));
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #dispatch(): void {
    while (this.#queue.length > 0 && this.#idle.length > 0) {
      const worker = this.#idle.pop()!;
      const job = this.#queue.shift()!;
      this.#running.set(worker, job);
      worker.postMessage(job.request);
    }
  }

  #settle(worker: Worker, reply: TaskReply): void {
    const job = this.#running.get(worker);
    this.#running.delete(worker);
    this.#idle.push(worker);
    if ('error' in reply) job?.reject(new MotError(reply.error.code as MotErrorCode, reply.error.message));
    else job?.resolve(reply.result);
    this.#dispatch();
  }

  #abandon(error: Error): void {
    this.#closed ??= error;
    for (const job of [...this.#running.values(), ...this.#queue.splice(0)]) job.reject(error);
    this.#running.clear();
  }
}
