import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { readRunConfig } from '../../lib/config/run_config.js';
import { MODEL_FILE, OPTIMIZER_FILE } from '../../lib/train/checkpoint.js';
import { isStep, readMetrics, type MetricsLine } from '../../lib/train/metrics.js';
import { runTraining } from '../../lib/train/run.js';
import { silent } from '../../lib/train/progress.js';
import { eventFiles, readScalars } from './event_reader.js';
import { writeTinyDataset } from './tiny_dataset.js';

const cli = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url));
// Enough that a signal sent after a few of them never comes too late.
const STEPS = 120;
let folder: string;
let config: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mot-train-'));
  await writeTinyDataset(join(folder, 'data'));
  config = join(folder, 'tiny.yaml');
  writeFileSync(
    config,
    `model: {d_model: 32, n_layers: 2, n_heads: 4, head_dim: 8, ffn_dim: 48}
data: {dataset: ${JSON.stringify(join(folder, 'data'))}}
train:
  steps: ${STEPS}
  sequences: 4
  micro_sequences: 2
  seq_len: 48
  lr: 0.01
  warmup_steps: 5
  schedule: wsd
  decay_share: 0.5
  validate_every: 24
  validation_documents: 10
  checkpoint_every: 6
  dtype: f32
  seed: 3
`,
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const out = (name: string): string => join(folder, name);
const lines = (name: string): MetricsLine[] => readMetrics(join(out(name), 'metrics.jsonl'));

/** All of a run that has to be the same whenever it is repeated: not times and memory. */
function results(name: string): unknown[] {
  return lines(name)
    .filter((line) => isStep(line) || line.event === 'validation')
    .map((line) => {
      if (!isStep(line)) return line;
      const { step, loss, losses, grad_norm, lr, tokens } = line;
      return { step, loss, losses, grad_norm, lr, tokens };
    });
}

function finalFiles(name: string): Buffer[] {
  const checkpoint = join(out(name), 'checkpoints', `step-${String(STEPS).padStart(6, '0')}`);
  return [MODEL_FILE, OPTIMIZER_FILE].map((file) => readFileSync(join(checkpoint, file)));
}

function expectSameAsUninterrupted(name: string): void {
  expect(results(name)).toEqual(results('whole'));
  finalFiles('whole').forEach((file, i) => expect(file.equals(finalFiles(name)[i]!)).toBe(true));
}

/** Starts `mot train` as a process of its own. */
function start(name: string, ...more: string[]): ChildProcess {
  return spawn(process.execPath, [cli, 'train', config, `out=${out(name)}`, ...more], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

async function reached(name: string, step: number): Promise<void> {
  const metrics = join(out(name), 'metrics.jsonl');
  while (!existsSync(metrics) || !readMetrics(metrics).some((line) => line.step >= step)) await sleep(1);
}

async function exitOf(child: ChildProcess): Promise<{ code: number | null; signal: string | null; stderr: string }> {
  let stderr = '';
  child.stderr!.on('data', (text: Buffer) => (stderr += text.toString()));
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { code, signal, stderr };
}

beforeAll(async () => {
  const { finished } = await runTraining(readRunConfig(config, [`out=${out('whole')}`]));
  expect(finished).toBe(true);
}, 60_000);

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
  await runTraining(readRunConfig(config, [`out=${out('threads')}`, 'train.threads=1']));
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
  const settings = [`out=${out('hook')}`, 'train.steps=24'];
  await runTraining(readRunConfig(config, settings), { onMetrics, progress });
  expect(got).toEqual(lines('hook'));
  expect(said.filter((sentence) => sentence.includes('the logger is down'))).toHaveLength(1);
  await runTraining(readRunConfig(config, [...settings, 'train.steps=30']), { onMetrics, resume: true });
  expect(got).toEqual(lines('hook'));
  expect(eventFiles(out('hook'))).toHaveLength(2);
  const steps = lines('hook').filter(isStep);
  expect(curve('train/loss')).toEqual(steps.map(({ step, loss }) => [step, Math.fround(loss!)]));
  expect(curve('train/loss/image')).toEqual(steps.map(({ step, losses }) => [step, Math.fround(losses['image']!)]));
  expect(curve('heldout/loss').map(([step]) => step)).toEqual([24, 30]);
  await runTraining(readRunConfig(config, [`out=${out('no-events')}`, 'train.steps=5', 'train.tensorboard=false']));
  expect(eventFiles(out('no-events'))).toEqual([]);
});

describe('interrupted', () => {
  test.each([7, 25, 60])(
    'kill -9 after step %d, then --resume, gives every line and weight again',
    async (step) => {
      const name = `killed-${step}`;
      const child = start(name);
      await reached(name, step);
      child.kill('SIGKILL');
      expect((await exitOf(child)).signal).toBe('SIGKILL');
      const { code, stderr } = await exitOf(start(name, '--resume'));
      expect({ code, stderr }).toMatchObject({ code: 0 });
      expect(stderr).toContain('resumed_from');
      expect(lines(name).some((line) => !isStep(line) && line.event === 'resumed_from')).toBe(true);
      expectSameAsUninterrupted(name);
    },
    60_000,
  );

  test('killed again and again at any moment', async () => {
    const name = 'killed-often';
    for (let i = 0, code: number | null = null; code !== 0; i++) {
      expect(i).toBeLessThan(30);
      const child = start(name, '--resume');
      const exit = exitOf(child);
      void sleep(300 * 1.2 ** i).then(() => child.kill('SIGKILL'));
      code = (await exit).code;
    }
    expectSameAsUninterrupted(name);
    expect(readdirSync(join(out(name), 'checkpoints')).filter((file) => file.startsWith('.'))).toEqual([]);
  }, 120_000);

  test.each(['SIGINT', 'SIGTERM'] as const)(
    '%s finishes the step, saves and exits 0',
    async (signal) => {
      const name = `stopped-${signal}`;
      const child = start(name);
      await reached(name, 3);
      child.kill(signal);
      const { code, stderr } = await exitOf(child);
      expect({ code, stderr }).toMatchObject({ code: 0 });
      const last = lines(name).filter(isStep).at(-1)!.step;
      expect(last).toBeLessThan(STEPS);
      expect(readdirSync(join(out(name), 'checkpoints'))).toContain(`step-${String(last).padStart(6, '0')}`);
      expect((await exitOf(start(name, '--resume'))).code).toBe(0);
      expectSameAsUninterrupted(name);
    },
    60_000,
  );

  test('a damaged checkpoint is passed over', async () => {
    const name = 'damaged';
    await runTraining(readRunConfig(config, [`out=${out(name)}`]));
    truncateSync(join(out(name), 'checkpoints', 'step-000120', MODEL_FILE), 1000);
    const said: string[] = [];
    const progress = {
      start() {},
      step() {},
      validation() {},
      stop() {},
      say: (sentence: string) => said.push(sentence),
    };
    await runTraining(readRunConfig(config, [`out=${out(name)}`]), { resume: true, progress });
    expect(said.join('\n')).toMatch(/passing over.*step-000120/);
    expect(said.join('\n')).toMatch(/resumed_from step 114/);
    expectSameAsUninterrupted(name);
  });
});

describe('refused', () => {
  const run = (overrides: string[], resume = false): Promise<unknown> =>
    runTraining(readRunConfig(config, overrides), { resume });

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
    await expect(run([`out=${config}`])).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
    await expect(run([`out=${join(config, 'below')}`])).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
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
