import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { join } from 'node:path';
import { trainConfigSchema, type TrainConfig } from '../../lib/config/train_config.js';
import { AnomalyWatch } from '../../lib/train/anomaly.js';
import { isStep, type AnomalyMetrics, type StepMetrics } from '../../lib/train/metrics.js';
import { silent } from '../../lib/train/progress.js';
import { writeTinyDataset } from './tiny_dataset.js';
import { TinyJob } from './tiny_job.js';

describe('what is a spike', () => {
  const anomaly = (over: Partial<TrainConfig['anomaly']> = {}): TrainConfig['anomaly'] => ({
    ...trainConfigSchema.parse({}).anomaly,
    ...over,
  });
  const step = (n: number, loss: number | null, grad_norm: number | null, skipped = false): StepMetrics => ({
    step: n,
    loss,
    losses: {},
    grad_norm,
    lr: 1,
    ...(skipped ? { skipped: true } : {}),
    tokens: 1,
    tokens_per_second: 1,
    elapsed: 1,
    memory: 1,
  });
  const fresh = () => ({ loss: [] as number[], grad_norm: [] as number[], skipped: 0 });
  /** A watch that has seen so many steps, with losses 3, 4, 5, 3, ... and norms of 1. */
  const after = (steps: number, config: TrainConfig['anomaly']): AnomalyWatch => {
    const watch = new AnomalyWatch(config, fresh());
    for (let n = 1; n <= steps; n++) {
      watch.before();
      expect(watch.after(step(n, 3 + (n % 3), 1))).toBeUndefined();
    }
    return watch;
  };

  test('median and median absolute deviation of the steps before, times the factor', () => {
    const watch = after(30, anomaly({ spike: 'skip', factor: 4 }));
    // Median 4, deviation 1; the norms have none of their own.
    expect(watch.before()).toEqual({ maxLoss: 4 + 4 * 1.4826, maxGradNorm: 1 + 4 * 0.1 });
    expect(watch.after(step(31, 9.9, 1.39))).toBeUndefined();
    watch.before();
    expect(watch.after(step(32, 9.95, 1, true))).toMatchObject({ kind: 'spike', action: 'skipped', loss: 9.95 });
    watch.before();
    expect(watch.after(step(33, 3, 1.5, true))).toMatchObject({ kind: 'spike', max_grad_norm: 1.4 });
  });

  test('the first twenty steps are not judged, and a warning leaves the step alone', () => {
    const watch = after(19, anomaly());
    watch.before();
    expect(watch.after(step(20, 1000, 1))).toBeUndefined();
    expect(watch.before()).toEqual({});
    expect(watch.after(step(21, 1000, 1))).toMatchObject({ kind: 'spike', action: 'warned', step: 21 });
  });

  test('a level that stays is no spike for long', () => {
    const recent = fresh();
    const watch = new AnomalyWatch(anomaly({ window: 20 }), recent);
    const judged = Array.from({ length: 50 }, (_, n) => {
      watch.before();
      return watch.after(step(n, n < 25 ? 1 : 9, 1)) !== undefined;
    });
    expect(judged.indexOf(true)).toBe(25);
    expect(judged.lastIndexOf(true)).toBeLessThanOrEqual(36);
    expect(recent.loss).toEqual(new Array(20).fill(9));
  });

  test('what is not finite is one always, and is not remembered', () => {
    const recent = fresh();
    const watch = new AnomalyWatch(anomaly({ spike: 'ignore', most_skipped: 2 }), recent);
    watch.before();
    expect(watch.after(step(1, null, null, true))).toMatchObject({ kind: 'not_finite', action: 'skipped', loss: null });
    watch.before();
    expect(watch.after(step(2, 1, null, true))).toMatchObject({ kind: 'not_finite', action: 'stopped' });
    expect(recent).toEqual({ loss: [1], grad_norm: [], skipped: 2 });
  });
});

describe('a poisoned document', () => {
  const POISON = 77;
  // The loss falls by half every few steps: only the newest say what is usual.
  const WINDOW = 'train.anomaly.window=20';
  const SKIP = 'train.anomaly.spike=skip';
  const STEPS = 110;
  let job: TinyJob;
  beforeAll(async () => {
    job = await TinyJob.create(STEPS);
    // Every document counts upwards from its first token, and one does not.
    await writeTinyDataset(join(job.folder, 'data'), 200, (d) => ({
      token: Array.from({ length: 12 }, (_, i) => (d + (d === POISON ? 7 : 1) * i) % 16),
      modality: new Array<number>(12).fill(0),
    }));
    await job.train('skip', [WINDOW, SKIP]);
  }, 60_000);
  afterAll(() => job.remove());

  const anomalies = (name: string): AnomalyMetrics[] =>
    job.lines(name).filter((line): line is AnomalyMetrics => !isStep(line) && line.event === 'anomaly');

  test('is found every time, and its steps change nothing', () => {
    const found = anomalies('skip');
    expect(found.length).toBeGreaterThanOrEqual(2);
    for (const { documents, action, kind, step, loss, max_loss } of found) {
      expect(documents).toContain(POISON);
      expect(documents).toHaveLength(16);
      expect(new Set(documents).size).toBe(16);
      expect({ action, kind, over: loss! > max_loss! }).toEqual({ action: 'skipped', kind: 'spike', over: true });
      const line = job.lines('skip').find((other) => isStep(other) && other.step === step) as StepMetrics;
      expect(line).toMatchObject({ skipped: true, loss });
    }
    const skipped = job.lines('skip').filter((line) => isStep(line) && line.skipped);
    expect(skipped.map(({ step }) => step)).toEqual(found.map(({ step }) => step));
  });

  test('the same after a stop and a resume between two of them', async () => {
    const [first, second] = anomalies('skip').map(({ step }) => step);
    const stop = new AbortController();
    const progress = { ...silent, step: ({ step }: StepMetrics) => void (step === first! && stop.abort()) };
    await job.train('again', [WINDOW, SKIP], { stop: stop.signal, progress });
    expect(anomalies('again').map(({ step }) => step)).toEqual([first]);
    await job.train('again', [WINDOW, SKIP], { resume: true });
    expect(anomalies('again')).toEqual(anomalies('skip'));
    expect(second).toBeDefined();
    expect(job.results('again')).toEqual(job.results('skip'));
    job.finalFiles('skip').forEach((file, i) => expect(file.equals(job.finalFiles('again')[i]!)).toBe(true));
  });

  test('ends the run where the config says so, with the documents; resumed, the step is left out', async () => {
    const data = join(job.folder, 'data');
    await expect(job.train('stop', [WINDOW, 'train.anomaly.spike=stop'])).rejects.toMatchObject({
      code: 'ERR_LOSS_SPIKE',
      message: expect.stringMatching(
        /^step \d+: the loss \S+ is a spike .*see them with mot data inspect \S+ --documents \d/,
      ),
    });
    const [stopped] = anomalies('stop');
    expect(stopped).toMatchObject({ ...anomalies('skip')[0], action: 'stopped' });
    await expect(job.train('stop', [WINDOW, 'train.anomaly.spike=stop'], { resume: true })).rejects.toMatchObject({
      code: 'ERR_LOSS_SPIKE',
      message: expect.stringContaining(data),
    });
    await job.train('stop', [WINDOW, SKIP], { resume: true });
    expect(job.results('stop')).toEqual(job.results('skip'));
  });

  test('a warning says so and changes no bit', async () => {
    const said: string[] = [];
    const progress = { ...silent, say: (sentence: string) => said.push(sentence) };
    await job.train('warn', [WINDOW], { progress });
    await job.train('ignore', [WINDOW, 'train.anomaly.spike=ignore']);
    expect(anomalies('warn').map(({ action }) => action)).toContain('warned');
    expect(said.filter((sentence) => /is a spike .*the step counts.*--documents/.test(sentence))).toHaveLength(
      anomalies('warn').length,
    );
    expect(anomalies('ignore')).toEqual([]);
    job.finalFiles('warn').forEach((file, i) => expect(file.equals(job.finalFiles('ignore')[i]!)).toBe(true));
  });
});

describe('a model that diverges', () => {
  let job: TinyJob;
  beforeAll(async () => {
    job = await TinyJob.create(20);
  });
  afterAll(() => job.remove());
  const diverge = (name: string, ...more: string[]): Promise<unknown> =>
    job.train(name, ['train.lr=1e30', 'train.clip=0', ...more]);

  test('ends the run after five steps in a row that are not finite', async () => {
    await expect(diverge('five')).rejects.toMatchObject({
      code: 'ERR_NOT_FINITE',
      message: expect.stringMatching(/not finite; the step changed nothing.*That makes 5 steps in a row/),
    });
    const actions = job.lines('five').map((line) => (isStep(line) || line.event !== 'anomaly' ? '' : line.action));
    expect(actions.filter(Boolean)).toEqual([...new Array<string>(4).fill('skipped'), 'stopped']);
  });

  test('or at the first where the config says so', async () => {
    await expect(diverge('first', 'train.anomaly.not_finite=stop')).rejects.toMatchObject({
      code: 'ERR_NOT_FINITE',
      message: expect.stringMatching(/train\.anomaly\.not_finite is stop/),
    });
    expect(job.lines('first').filter((line) => isStep(line) && line.skipped)).toHaveLength(1);
  });
});
