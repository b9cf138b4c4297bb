import { expect, test } from '@jest/globals';
import { MetricsHook } from '../../lib/train/hook.js';
import type { MetricsLine } from '../../lib/train/metrics.js';

const line = (step: number): MetricsLine => ({ event: 'resumed_from', step, checkpoint: 'c' });

test('a hook gets every line at once and in order', () => {
  const got: number[] = [];
  const hook = new MetricsHook(({ step }) => void got.push(step), fail);
  for (const step of [1, 2, 3]) hook.call(line(step));
  expect(got).toEqual([1, 2, 3]);
});

test('what it throws or rejects with is said once for each message, with the step', async () => {
  const said: string[] = [];
  const hook = new MetricsHook(
    ({ step }) => {
      if (step % 2 === 0) throw new Error('no connection');
      return Promise.reject(new Error('no answer'));
    },
    (sentence) => said.push(sentence),
  );
  for (const step of [1, 2, 3, 4]) hook.call(line(step));
  await hook.settle();
  expect(said).toEqual([
    'onMetrics failed at step 2, and training goes on: no connection',
    'onMetrics failed at step 1, and training goes on: no answer',
  ]);
});

test('the end waits for promises of the hook', async () => {
  let written = 0;
  const hook = new MetricsHook(async () => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    written++;
  }, fail);
  hook.call(line(1));
  hook.call(line(2));
  expect(written).toBe(0);
  await hook.settle();
  expect(written).toBe(2);
});

function fail(sentence: string): never {
  throw new Error(`said: ${sentence}`);
}
