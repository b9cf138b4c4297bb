import { Worker } from 'node:worker_threads';
import { MotError, type MotErrorCode } from '../errors.js';
import type { TaskReply, TaskRequest } from './worker_tasks.js';

/** What waits for a worker. */
interface Job {
  request: TaskRequest;
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
  /** Milliseconds without a sign of life after which the worker is given up. */
  silence: number | undefined;
  watch?: NodeJS.Timeout;
}

/** Worker threads that run one script (see serveTasks) and take tasks in the order in which they come. */
export class WorkerPool<Types extends { [Kind in keyof Types]: { task: unknown; result: unknown } }> {
  readonly threads: number;
  readonly #script: URL;
  readonly #workers = new Set<Worker>();
  readonly #idle: Worker[] = [];
  readonly #queue: Job[] = [];
  readonly #running = new Map<Worker, Job>();
  #closed: Error | undefined;

  constructor(script: URL, threads: number) {
    this.threads = threads;
    this.#script = script;
    for (let i = 0; i < threads; i++) this.#start();
  }

  /**
   * Runs a task on the next free worker.
   *
   * @param guard `silence`: a task that may hang or need too much memory, as broken files can make decoders do. When its
   *   worker gives no sign of life for so many milliseconds, or dies, another takes its place, and the task fails with
   *   MotError ERR_LIMIT. Without it, a worker that dies ends the pool.
   */
  run<Kind extends keyof Types & string>(
    kind: Kind,
    task: Types[Kind]['task'],
    guard: { silence?: number } = {},
  ): Promise<Types[Kind]['result']> {
    return new Promise<unknown>((resolve, reject) => {
      if (this.#closed) {
        reject(this.#closed);
        return;
      }
      this.#queue.push({ request: { kind, task }, resolve, reject, silence: guard.silence });
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
    const workers = [...this.#workers];
    this.#workers.clear();
    await Promise.all(workers.map((worker) => worker.terminate()));
  }

  #start(): void {
    // Flite runs under node:wasi, which is still called experimental.
    const worker = new Worker(this.#script, { execArgv: ['--disable-warning=ExperimentalWarning'] });
    worker.on('message', (reply: TaskReply) => this.#settle(worker, reply));
    worker.on('error', (cause) => this.#lose(worker, cause));
    // A worker that is ended by close() or given up is not in the set any more.
    worker.on('exit', (code) => this.#workers.has(worker) && this.#lose(worker, `it ended with code ${code}`));
    this.#workers.add(worker);
    this.#idle.push(worker);
  }

  #dispatch(): void {
    while (this.#queue.length > 0 && this.#idle.length > 0) {
      const worker = this.#idle.pop()!;
      const job = this.#queue.shift()!;
      this.#running.set(worker, job);
      this.#watch(worker, job);
      worker.postMessage(job.request);
    }
  }

  #watch(worker: Worker, job: Job): void {
    clearTimeout(job.watch);
    if (job.silence === undefined) return;
    const reason = `no sign of life for ${job.silence / 1000} s`;
    job.watch = setTimeout(() => this.#giveUp(worker, job, reason), job.silence);
  }

  #settle(worker: Worker, reply: TaskReply): void {
    const job = this.#running.get(worker);
    if (job === undefined) return;
    if ('alive' in reply) {
      this.#watch(worker, job);
      return;
    }
    clearTimeout(job.watch);
    this.#running.delete(worker);
    this.#idle.push(worker);
    if ('error' in reply) job.reject(new MotError(reply.error.code as MotErrorCode, reply.error.message));
    else job.resolve(reply.result);
    this.#dispatch();
  }

  #lose(worker: Worker, cause: unknown): void {
    const job = this.#running.get(worker);
    const reason = `a worker thread failed: ${String(cause)}`;
    if (job?.silence !== undefined) this.#giveUp(worker, job, reason);
    else this.#abandon(new MotError('ERR_INTERNAL', reason, { cause }));
  }

  /** Ends a worker that is lost and starts another in its place; the others go on. */
  #giveUp(worker: Worker, job: Job, reason: string): void {
    clearTimeout(job.watch);
    this.#running.delete(worker);
    this.#workers.delete(worker);
    void worker.terminate();
    job.reject(new MotError('ERR_LIMIT', reason));
    if (this.#closed) return;
    this.#start();
    this.#dispatch();
  }

  #abandon(error: Error): void {
    this.#closed ??= error;
    for (const job of [...this.#running.values(), ...this.#queue.splice(0)]) {
      clearTimeout(job.watch);
      job.reject(error);
    }
    this.#running.clear();
  }
}
