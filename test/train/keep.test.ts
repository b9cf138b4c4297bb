import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { readdirSync, readlinkSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { readRunConfig } from '../../lib/config/run_config.js';
import { BestMetric } from '../../lib/train/best.js';
import { openCheckpoint } from '../../lib/train/checkpoint.js';
import type { ValidationMetrics } from '../../lib/train/metrics.js';
import { TinyJob } from './tiny_job.js';

let job: TinyJob;
beforeAll(async () => {
  job = await TinyJob.create(60);
});
afterAll(() => job.remove());

const names = (steps: number[]): string[] => steps.map((step) => `step-${String(step).padStart(6, '0')}`);
const kept = (name: string): string[] => readdirSync(job.checkpoints(name)).sort();

/** Step of the lowest value in metrics.jsonl among those that were saved. */
function bestStep(name: string, split: string, value: (line: ValidationMetrics) => number | null): number {
  let best = { step: 0, value: Infinity };
  for (const line of job.lines(name))
    if ('split' in line && line.split === split && value(line)! < best.value)
      best = { step: line.step, value: value(line)! };
  return best.step;
}

test('every Nth checkpoint stays besides the newest', async () => {
  await job.train('every', ['train.keep_every=18', 'train.keep_checkpoints=1']);
  expect(kept('every')).toEqual(names([18, 36, 54, 60]));
});

test('the best by a metric stays and has a link, also over a resume', async () => {
  // Held-out losses of a model that learns its few documents by heart fall, then rise.
  const settings = ['train.keep_best=heldout.losses.text', 'train.keep_checkpoints=1', 'train.validate_every=6'];
  await job.train('best', [...settings, 'train.steps=300', 'train.lr=0.03']);
  const best = bestStep('best', 'heldout', ({ losses }) => losses['text']!);
  expect(best).toBeGreaterThan(0);
  expect(best).toBeLessThan(300);
  expect(kept('best')).toEqual(['best', ...names([best, 300])]);
  expect(readlinkSync(join(job.checkpoints('best'), 'best'))).toBe(names([best])[0]);
  expect(openCheckpoint(join(job.checkpoints('best'), 'best')).state.step).toBe(best);
  // The values from before are read again.
  await job.train('best', [...settings, 'train.steps=306', 'train.lr=0.03'], { resume: true });
  const later = bestStep('best', 'heldout', ({ losses }) => losses['text']!);
  expect(kept('best')).toEqual(['best', ...names([later, 306])]);
  // Without the metric the link goes with what it pointed to.
  await job.train('best', [...settings.slice(1), 'train.steps=312', 'train.lr=0.03'], { resume: true });
  expect(kept('best')).toEqual(names([312]));
});

test('a best checkpoint that is also the newest is no other one', async () => {
  await job.train('newest', ['train.keep_best=validation.loss', 'train.keep_checkpoints=1', 'train.validate_every=6']);
  const best = bestStep('newest', 'validation', ({ loss }) => loss);
  expect(kept('newest')).toEqual(['best', ...names([...new Set([best, 60])])]);
  expect(realpathSync(join(job.checkpoints('newest'), 'best'))).toBe(realpathSync(job.checkpoint('newest', best)));
});

describe('the best of some steps', () => {
  const line = (step: number, loss: number | null): ValidationMetrics => ({
    event: 'validation',
    step,
    split: 'validation',
    loss,
    losses: { text: loss === null ? null : -loss },
    targets: {},
  });
  test('is the lowest, the earliest of equals; values that are not finite never are', () => {
    const loss = new BestMetric('validation.loss');
    const text = new BestMetric('validation.losses.text');
    for (const metric of [loss, text]) {
      metric.add(line(1, 3));
      metric.add(line(2, 1));
      metric.add(line(3, null));
      metric.add(line(4, 1));
      metric.add({ ...line(5, 0), split: 'heldout' });
    }
    expect(loss.best([4, 3, 2, 1, 5])).toBe(2);
    expect(text.best([1, 2, 3, 4])).toBe(1);
    expect(loss.best([4, 3])).toBe(4);
    expect(loss.best([3, 5])).toBeUndefined();
    expect(new BestMetric('validation.losses.speech').best([1, 2])).toBeUndefined();
  });
});

describe('refused', () => {
  const refused = (train: Record<string, unknown>): (() => unknown) => {
    const text = Object.entries(train).map(([key, value]) => `train.${key}=${String(value)}`);
    return () => readRunConfig(job.config, text);
  };
  test.each<[Record<string, unknown>, RegExp]>([
    [{ keep_best: 'training.loss' }, /keep_best.*must be validation\.loss/],
    [{ keep_best: 'validation.loss' }, /make checkpoint_every a multiple of validate_every/],
    [{ keep_best: 'validation.loss', validate_every: 6, validation_documents: 0 }, /validation_documents 0/],
    [{ keep_every: -1 }, /keep_every/],
  ])('%j', (train, message) => {
    expect(refused(train)).toThrow(message);
  });

  test('a modality that the data set does not have', async () => {
    const settings = ['train.keep_best=validation.losses.smell', 'train.validate_every=6'];
    await expect(job.train('refused', settings)).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      message: expect.stringContaining('text, image, speech'),
    });
  });
});
