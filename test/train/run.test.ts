import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { readdirSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { readRunConfig } from '../../lib/config/run_config.js';
import { MODEL_FILE } from '../../lib/train/checkpoint.js';
import { isStep, type MetricsLine } from '../../lib/train/metrics.js';
import { silent } from '../../lib/train/progress.js';
import { runTraining } from '../../lib/train/run.js';
import { eventFiles, readScalars } from './event_reader.js';
import { TinyJob } from './tiny_job.js';

const STEPS = 120;
let job: TinyJob;

beforeAll(async () => {
  job = await TinyJob.create(STEPS);
  const { finished } = await job.train('whole');
  expect(finished).toBe(true);
}, 60_000);
afterAll(() => job.remove());

const out = (name: string): string => job.out(name);
const lines = (name: string): MetricsLine[] => job.lines(name);

function expectSameAsUninterrupted(name: string): void {
  expect(job.results(name)).toEqual(job.results('whole'));
  job.finalFiles('whole').forEach((file, i) => expect(file.equals(job.finalFiles(name)[i]!)).toBe(true));
}

test('the model learns, and every step and validation has its line', () => {
  const all = lines('whole');
  const steps = all.filter(isStep);
  expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: STEPS }, (_, i) => i + 1));
  expect(steps.at(-1)!.loss!).toBeLessThan(0.8 * steps[0]!.loss!);
  for (const { losses, lr, grad_norm, tokens, tokens_per_second, memory } of steps) {
    expect(Object.keys(losses)).toEqual(['text', 'image', 'speech']);
    for (const value of [lr, grad_norm, tokens, tokens_per_second, memory]) expect(value).toBeGreaterThan(0);
  }
  // Warm-up, stable, and linear decay to a tenth over the second half.
  expect(steps.filter(({ step }) => [1, 60, 120].includes(step)).map(({ lr }) => Number(lr.toFixed(9)))).toEqual([
    0.002, 0.01, 0.001,
  ]);
  const validations = all.filter((line) => !isStep(line));
  expect(validations.map((line) => line.step)).toEqual([24, 48, 72, 96, 120].flatMap((step) => [step, step]));
  // Two checkpoints are kept.
  expect(readdirSync(join(out('whole'), 'checkpoints'))).toEqual(['step-000114', 'step-000120']);
});

test('a run is the same bits when repeated, and with another number of threads', async () => {
  await job.train('threads', ['train.threads=1']);
  expectSameAsUninterrupted('threads');
});

test('TensorBoard gets the same curves, and a hook every line; that it throws does not end the run', async () => {
  const curve = (tag: string): number[][] =>
    readScalars(out('hook'))
      .filter((scalar) => scalar.tag === tag)
      .map(({ step, value }) => [step, value]);
  const got: MetricsLine[] = [];
  const said: string[] = [];
  const onMetrics = (line: MetricsLine): void => {
    got.push(line);
    throw new Error('the logger is down');
  };
  const progress = { ...silent, say: (sentence: string) => said.push(sentence) };
  await job.train('hook', ['train.steps=24'], { onMetrics, progress });
  expect(got).toEqual(lines('hook'));
  expect(said.filter((sentence) => sentence.includes('the logger is down'))).toHaveLength(1);
  await job.train('hook', ['train.steps=30'], { onMetrics, resume: true });
  expect(got).toEqual(lines('hook'));
  expect(eventFiles(out('hook'))).toHaveLength(2);
  const steps = lines('hook').filter(isStep);
  expect(curve('train/loss')).toEqual(steps.map(({ step, loss }) => [step, Math.fround(loss!)]));
  expect(curve('train/loss/image')).toEqual(steps.map(({ step, losses }) => [step, Math.fround(losses['image']!)]));
  expect(curve('heldout/loss').map(([step]) => step)).toEqual([24, 30]);
  await job.train('no-events', ['train.steps=5', 'train.tensorboard=false']);
  expect(eventFiles(out('no-events'))).toEqual([]);
});

test('a damaged checkpoint is passed over', async () => {
  const name = 'damaged';
  await job.train(name);
  truncateSync(join(job.checkpoint(name), MODEL_FILE), 1000);
  const said: string[] = [];
  const progress = { ...silent, say: (sentence: string) => said.push(sentence) };
  await job.train(name, [], { resume: true, progress });
  expect(said.join('\n')).toMatch(/passing over.*step-000120/);
  expect(said.join('\n')).toMatch(/resumed_from step 114/);
  expectSameAsUninterrupted(name);
});

describe('refused', () => {
  const run = (overrides: string[], resume = false): Promise<unknown> =>
    runTraining(readRunConfig(job.config, overrides), { resume });

  test('a folder that holds a run, without --resume', async () => {
    await expect(run([`out=${out('whole')}`])).rejects.toMatchObject({
      code: 'ERR_USAGE',
      message: expect.stringContaining('--resume'),
    });
  });

  test('to resume with another config', async () => {
    await expect(run([`out=${out('whole')}`, 'train.lr=0.02', 'model.ffn_dim=56'], true)).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      message: expect.stringMatching(/model\.ffn_dim was 48 and is now 56.*train\.lr was 0\.01 and is now 0\.02/),
    });
  });

  test.each([
    ['train.seq_len=10', 'ERR_CONFIG', /longest document has \d+ tokens/],
    ['model.vocab=7', 'ERR_CONFIG', /the data set has \d+ token ids/],
    ['model.modalities=[text]', 'ERR_CONFIG', /the data set has/],
    ['data.dataset=/nowhere', 'ERR_FILE_OPEN', /nowhere/],
  ])('%s', async (override, code, message) => {
    await expect(run([`out=${out('refused')}`, override])).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  test('an out that is a file, or below one', async () => {
    await expect(run([`out=${job.config}`])).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
    await expect(run([`out=${join(job.config, 'below')}`])).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
  });

  test('weights that are not finite end the run and leave the last good checkpoint', async () => {
    const name = 'diverged';
    await expect(
      run([`out=${out(name)}`, 'train.lr=1e30', 'train.clip=0', 'train.checkpoint_every=1']),
    ).rejects.toMatchObject({
      code: expect.stringMatching(/ERR_NOT_FINITE/),
    });
  });
});
