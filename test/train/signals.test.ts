import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isStep } from '../../lib/train/metrics.js';
import { exitOf, TinyJob } from './tiny_job.js';

// Enough that a signal sent after a few steps never comes too late.
const STEPS = 150;
let job: TinyJob;
beforeAll(async () => {
  job = await TinyJob.create(STEPS);
  await job.train('whole');
}, 60_000);
afterAll(() => job.remove());

const lastStep = (name: string): number => job.lines(name).filter(isStep).at(-1)!.step;

async function expectResumedToTheSame(name: string): Promise<void> {
  expect((await exitOf(job.start(name, '--resume'))).code).toBe(0);
  expect(job.results(name)).toEqual(job.results('whole'));
  job.finalFiles('whole').forEach((file, i) => expect(file.equals(job.finalFiles(name)[i]!)).toBe(true));
}

test.each(['SIGINT', 'SIGTERM'] as const)('%s finishes the step, saves and exits 0', async (signal) => {
  const name = `stopped-${signal}`;
  const child = job.start(name);
  await job.reached(name, 3);
  child.kill(signal);
  const { code, stderr } = await exitOf(child);
  expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringContaining('go on with --resume') });
  expect(lastStep(name)).toBeLessThan(STEPS);
  expect(existsSync(job.checkpoint(name, lastStep(name)))).toBe(true);
  await expectResumedToTheSame(name);
});

test.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('a second %s exits at once, with %d, and what was saved can be resumed', async (signal, expected) => {
  const name = `twice-${signal}`;
  // Steps of about half a second, so that both signals come within one.
  const slow = ['train.sequences=1024', 'train.checkpoint_every=1', 'train.warmup_steps=0'];
  const child = job.start(name, ...slow);
  const exit = exitOf(child);
  while (!existsSync(job.checkpoint(name, 1))) await sleep(1);
  child.kill(signal);
  await new Promise<void>((resolve) => {
    child.stderr!.on('data', (text: Buffer) => void (text.includes('once more') && resolve()));
  });
  const began = performance.now();
  child.kill(signal);
  expect((await exit).code).toBe(expected);
  expect(performance.now() - began).toBeLessThan(500);
  // The step that ran was given up.
  expect(lastStep(name)).toBe(1);
  expect((await exitOf(job.start(name, '--resume', ...slow, 'train.steps=2'))).code).toBe(0);
});

test('SIGUSR2 saves and training goes on to the same end', async () => {
  const name = 'asked';
  // No checkpoint but the last one would be written.
  const child = job.start(name, 'train.checkpoint_every=0', 'train.keep_checkpoints=9');
  const exit = exitOf(child);
  for (const step of [5, 40]) {
    await job.reached(name, step);
    child.kill('SIGUSR2');
  }
  const { code, stderr } = await exit;
  expect({ code, stderr }).toMatchObject({ code: 0 });
  const steps = [...stderr.matchAll(/step (\d+): saved, as asked/g)].map((match) => Number(match[1]));
  expect(steps).toHaveLength(2);
  expect(readdirSync(job.checkpoints(name))).toEqual(
    [...steps, STEPS].map((step) => `step-${String(step).padStart(6, '0')}`),
  );
  expect(job.results(name)).toEqual(job.results('whole'));
  job.finalFiles('whole').forEach((file, i) => expect(file.equals(job.finalFiles(name)[i]!)).toBe(true));
});
