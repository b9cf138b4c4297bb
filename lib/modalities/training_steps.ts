import { WorkerPool } from '../threads/worker_pool.js';
import type { TrainingTasks } from './training_worker.js';

/*
 * Training of codebooks on several threads. What is long in it are loops over items that do not depend on each other;
 * training is written as a generator that hands each such loop out, and adds up in a fixed order itself. So the result
 * is the same, to the bit, on any number of threads.
 */

/** Work of a loop: does items [begin, end), writes what belongs to them, and returns a count. Called in any order. */
export type Loop = (begin: number, end: number) => number;

/** Items that a thread takes at a time. A pass of fewer is not worth other threads. */
export const BLOCK = 1024;

/** A loop, and what another thread makes it of. */
export interface Pass {
  start: () => Loop;
  /** Its name in training_worker.ts. */
  kernel: string;
  /** Its argument; arrays that it writes are in shared memory (see {@link shared}). */
  task: unknown;
  items: number;
  /** Items that a thread takes at a time. */
  block: number;
}

/** A computation that waits for passes and gets the sum of each one's counts. */
export type Steps<Result> = Generator<Pass, Result, number>;

/** A pass of a kernel: `make` under the name that training_worker.ts has for it. */
export function* pass<Task>(
  kernel: string,
  make: (task: Task) => Loop,
  task: Task,
  items: number,
  block = BLOCK,
): Steps<number> {
  return yield { start: () => make(task), kernel, task, items, block };
}

/** The same numbers in memory that threads share. */
export function shared(values: Float64Array): Float64Array {
  const copy = sharedFloat64(values.length);
  copy.set(values);
  return copy;
}

/** Zeros in memory that threads share. */
export function sharedFloat64(length: number): Float64Array {
  return new Float64Array(new SharedArrayBuffer(8 * length));
}

/** Does all passes on this thread. */
export function runHere<Result>(steps: Steps<Result>): Result {
  let next = steps.next();
  while (!next.done) next = steps.next(next.value.start()(0, next.value.items));
  return next.value;
}

/**
 * Does the passes on this thread, which is busy meanwhile, and `threads` - 1 others that live as long as this.
 *
 * @throws MotError ERR_INTERNAL when a thread dies.
 */
export async function runOnThreads<Result>(steps: Steps<Result>, threads: number): Promise<Result> {
  let pool: WorkerPool<TrainingTasks> | undefined;
  try {
    let next = steps.next();
    while (!next.done) {
      const { start, kernel, task, items, block } = next.value;
      const cursor = new Int32Array(new SharedArrayBuffer(4));
      const helpers: Promise<number>[] = [];
      for (let helper = 1; helper < Math.min(threads, Math.ceil(items / block)); helper++) {
        pool ??= new WorkerPool(new URL('./training_worker.js', import.meta.url), threads - 1);
        helpers.push(pool.run('pass', { kernel, task, items, block, cursor }));
      }
      const others = Promise.all(helpers);
      others.catch(() => {}); // Told below.
      const own = takeBlocks(start(), items, block, cursor);
      next = steps.next((await others).reduce((sum, count) => sum + count, own));
    }
    return next.value;
  } finally {
    await pool?.close();
  }
}

/** A thread's share of a pass: blocks that no other has taken yet. `cursor` [1]: blocks taken. */
export function takeBlocks(loop: Loop, items: number, block: number, cursor: Int32Array): number {
  let count = 0;
  for (;;) {
    const begin = Atomics.add(cursor, 0, 1) * block;
    if (begin >= items) return count;
    count += loop(begin, Math.min(begin + block, items));
  }
}
