import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  latestCheckpoint,
  MODEL_FILE,
  openCheckpoint,
  OPTIMIZER_FILE,
  readCheckpoint,
  removeUnfinished,
  writeCheckpoint,
  type TrainerState,
} from '../../lib/train/checkpoint.js';
import { MetricsFile, readMetrics, type StepMetrics } from '../../lib/train/metrics.js';
import { learningRate } from '../../lib/train/schedule.js';

let run: string;
beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), 'mot-run-'));
});
afterEach(() => rmSync(run, { recursive: true, force: true }));

function stateAt(step: number): TrainerState {
  return {
    step,
    skipped: 0,
    recent: { loss: [3.5, 3.25], grad_norm: [1.5, 0.75], skipped: 0 },
    cursor: 7 * step,
    seed: 1,
    config: { out: 'a' },
    elapsed: 1.5,
    dataset: { folder: 'd', fingerprint: 'f' },
  };
}

const save = async (folder: string): Promise<void> => {
  writeFileSync(join(folder, MODEL_FILE), 'weights');
  writeFileSync(join(folder, OPTIMIZER_FILE), 'moments');
};

const quiet = (): void => {};
const folders = (): string[] => readdirSync(join(run, 'checkpoints'));

describe('checkpoints', () => {
  test('the newest is found with its state, older ones are pruned', async () => {
    for (const step of [1, 2, 3]) await writeCheckpoint(run, stateAt(step), { newest: 2 }, save);
    expect(folders()).toEqual(['step-000002', 'step-000003']);
    const latest = latestCheckpoint(run, quiet)!;
    expect(latest.state).toEqual(stateAt(3));
    expect(openCheckpoint(run).path).toBe(latest.path);
    expect(openCheckpoint(latest.path).state.step).toBe(3);
    expect(openCheckpoint(join(latest.path, MODEL_FILE)).state.step).toBe(3);
  });

  test.each<[string, (folder: string) => void]>([
    ['truncated', (folder) => truncateSync(join(folder, MODEL_FILE), 3)],
    ['of other content', (folder) => writeFileSync(join(folder, MODEL_FILE), 'wEights')],
    ['longer', (folder) => appendFileSync(join(folder, OPTIMIZER_FILE), '!')],
    ['gone', (folder) => rmSync(join(folder, OPTIMIZER_FILE))],
    ['without manifest', (folder) => rmSync(join(folder, 'manifest.json'))],
    ['with half a manifest', (folder) => truncateSync(join(folder, 'manifest.json'), 30)],
    ['with a changed state', (folder) => writeFileSync(join(folder, 'trainer.json'), JSON.stringify(stateAt(9)))],
  ])('a damaged one is passed over with a warning: a file %s', async (_, damage) => {
    await writeCheckpoint(run, stateAt(1), { newest: 5 }, save);
    await writeCheckpoint(run, stateAt(2), { newest: 5 }, save);
    damage(join(run, 'checkpoints', 'step-000002'));
    const warnings: string[] = [];
    expect(latestCheckpoint(run, (sentence) => warnings.push(sentence))?.state.step).toBe(1);
    expect(warnings).toHaveLength(1);
    expect(() => readCheckpoint(join(run, 'checkpoints', 'step-000002'))).toThrow();
    // What is written after going on from step 1 must not be pruned in favour of the damaged one.
    await writeCheckpoint(run, { ...stateAt(1), step: 1 }, { newest: 1 }, save);
    expect(latestCheckpoint(run, quiet)?.state.step).toBe(1);
  });

  test('a failure leaves nothing but the older checkpoints', async () => {
    await writeCheckpoint(run, stateAt(1), { newest: 2 }, save);
    const failing = async (folder: string): Promise<void> => {
      await save(folder);
      throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    };
    await expect(writeCheckpoint(run, stateAt(2), { newest: 2 }, failing)).rejects.toMatchObject({
      code: 'ERR_FILE_WRITE',
      message: expect.stringContaining('the disk is full'),
    });
    expect(folders()).toEqual(['step-000001']);
  });

  test('a folder that cannot be made is a MotError', async () => {
    writeFileSync(join(run, 'checkpoints'), 'a file in the way');
    await expect(writeCheckpoint(run, stateAt(1), { newest: 2 }, save)).rejects.toMatchObject({
      code: 'ERR_FILE_WRITE',
    });
  });

  test('leftovers of a killed process are no checkpoints, and go', () => {
    const leftover = join(run, 'checkpoints', '.step-000005.tmp-123');
    mkdirSync(leftover, { recursive: true });
    expect(latestCheckpoint(run, quiet)).toBeUndefined();
    removeUnfinished(run);
    expect(existsSync(leftover)).toBe(false);
  });

  test('no checkpoint, no file', () => {
    expect(() => openCheckpoint(join(run, 'nothing'))).toThrow(expect.objectContaining({ code: 'ERR_FILE_OPEN' }));
  });
});

describe('metrics', () => {
  const line = (step: number): StepMetrics => ({
    step,
    loss: 1 / step,
    losses: { text: 1 / step },
    grad_norm: 1,
    lr: 1e-3,
    tokens: 10,
    tokens_per_second: 5,
    elapsed: step,
    memory: 100,
  });

  test('lines after the checkpoint are cut off, a half line too', () => {
    const path = join(run, 'metrics.jsonl');
    const { file } = MetricsFile.open(path, 0);
    for (const step of [1, 2]) file.append(line(step));
    file.append({ event: 'validation', step: 2, split: 'validation', loss: 1, losses: {}, targets: {} });
    file.append(line(3));
    file.close();
    const whole = readFileSync(path, 'utf8');
    appendFileSync(path, '{"step": 4, "lo');
    expect(readMetrics(path)).toHaveLength(4);
    const reopened = MetricsFile.open(path, 2);
    expect(reopened.lines.map(({ step }) => step)).toEqual([1, 2, 2]);
    reopened.file.append(line(3));
    reopened.file.close();
    expect(readFileSync(path, 'utf8')).toBe(whole);
    MetricsFile.open(path, 0).file.close();
    expect(readFileSync(path, 'utf8')).toBe('');
  });

  test('a folder that cannot be written is a MotError', () => {
    expect(() => MetricsFile.open(join(run, 'no', 'metrics.jsonl'), 0)).toThrow(
      expect.objectContaining({ code: 'ERR_FILE_WRITE' }),
    );
  });

  test('a full disk is a MotError', () => {
    if (!existsSync('/dev/full')) return;
    const { file } = MetricsFile.open('/dev/full', 0);
    expect(() => file.append(line(1))).toThrow(
      expect.objectContaining({ code: 'ERR_FILE_WRITE', message: expect.stringContaining('full') }),
    );
    file.close();
  });
});

describe('learning rate', () => {
  const schedule = { lr: 2, minLrRatio: 0.1, warmupSteps: 10, steps: 110 };
  test.each([
    [1, 0.2],
    [5, 1],
    [10, 2],
    [60, 1.1],
    [110, 0.2],
    [500, 0.2],
  ])('step %d', (step, expected) => {
    expect(learningRate(schedule, step)).toBeCloseTo(expected, 12);
  });

  test.each([
    ['constant', { 11: 2, 60: 2, 110: 2, 500: 2 }],
    ['linear', { 35: 1.55, 60: 1.1, 110: 0.2, 500: 0.2 }],
    ['cosine', { 35: 0.2 + 1.8 * 0.5 * (1 + Math.SQRT1_2), 60: 1.1, 110: 0.2, 500: 0.2 }],
    // Half of the way is one square root of the whole factor 0.1.
    ['exponential', { 60: 2 * Math.sqrt(0.1), 110: 0.2, 500: 0.2 }],
    ['wsd', { 11: 2, 90: 2, 100: 1.1, 105: 0.65, 110: 0.2, 500: 0.2 }],
  ] as const)('%s after the warm-up', (shape, expected) => {
    const plan = { ...schedule, schedule: shape, decayShare: 0.2 };
    expect(learningRate(plan, 5)).toBe(1);
    expect(learningRate(plan, 10)).toBe(2);
    for (const [step, rate] of Object.entries(expected)) expect(learningRate(plan, Number(step))).toBeCloseTo(rate, 12);
  });

  test.each(['constant', 'linear', 'cosine', 'exponential', 'wsd'] as const)('%s of a run without an end', (shape) => {
    expect(learningRate({ ...schedule, schedule: shape, steps: Infinity }, 1000)).toBe(2);
  });

  test('without warm-up, and with nothing but warm-up', () => {
    expect(learningRate({ ...schedule, warmupSteps: 0 }, 1)).toBeCloseTo(2, 2);
    expect(learningRate({ ...schedule, warmupSteps: 110 }, 110)).toBe(2);
  });
});
