import { afterEach, expect, test } from '@jest/globals';
import { WorkerPool } from '../../lib/threads/worker_pool.js';
import type { StuckTasks } from './stuck_worker.js';

let pool: WorkerPool<StuckTasks>;
const start = (threads: number): void => {
  pool = new WorkerPool<StuckTasks>(new URL('./stuck_worker.js', import.meta.url), threads);
};
afterEach(() => pool.close());

test('a guarded task that hangs fails alone; the others are done', async () => {
  start(1);
  await pool.run('quick', 0);
  const hangs = pool.run('hang', null, { silence: 2500 });
  const after = pool.run('quick', 1);
  await expect(hangs).rejects.toMatchObject({ code: 'ERR_LIMIT', message: expect.stringContaining('no sign of life') });
  expect(await after).toBe(2);
});

test('a guarded task that takes longer than the silence but lives is done', async () => {
  start(1);
  expect(await pool.run('slow', 4000, { silence: 2500 })).toBe('slow');
});

test('a guarded task whose worker dies fails alone', async () => {
  start(2);
  await expect(pool.run('die', null, { silence: 20_000 })).rejects.toMatchObject({ code: 'ERR_LIMIT' });
  expect(await Promise.all([1, 2, 3].map((i) => pool.run('quick', i)))).toEqual([2, 3, 4]);
});

test('without a guard a worker that dies ends the pool', async () => {
  start(1);
  await expect(pool.run('die', null)).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
  await expect(pool.run('quick', 1)).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
});
