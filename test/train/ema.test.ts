import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { readRunConfig } from '../../lib/config/run_config.js';
import { SafetensorsFile } from '../../lib/io/safetensors.js';
import { Model, type WeightKind } from '../../lib/model/model.js';
import { EMA_FILE, MODEL_FILE, readCheckpoint } from '../../lib/train/checkpoint.js';
import { isStep, type ValidationMetrics } from '../../lib/train/metrics.js';
import { generate } from '../../lib/generate/generate.js';
import { silent } from '../../lib/train/progress.js';
import { emaDecayAt } from '../../lib/train/schedule.js';
import { train } from '../../lib/train/train.js';
import { TinyJob } from './tiny_job.js';

const AVERAGING = ['train.ema_decay=0.9'];
let job: TinyJob;

beforeAll(async () => {
  job = await TinyJob.create(48);
  await job.train('averaging', AVERAGING);
}, 60_000);
afterAll(() => job.remove());

const file = (run: string, name: string, step?: number): Buffer => readFileSync(join(job.checkpoint(run, step), name));
const validations = (run: string): ValidationMetrics[] =>
  job.lines(run).filter((line): line is ValidationMetrics => !isStep(line) && line.event === 'validation');

test('the decay warms up by (1 + n) / (10 + n)', () => {
  expect([1, 2, 10].map((update) => emaDecayAt(0.9, update))).toEqual([2 / 11, 3 / 12, 11 / 20]);
  expect(emaDecayAt(0.9, 79)).toBeLessThan(0.9);
  expect(emaDecayAt(0.9, 81)).toBe(0.9);
});

test('a run averages its weights, trains as without, and validates the average', async () => {
  await job.train('plain');
  expect(job.results('averaging').filter((line) => !('split' in (line as object)))).toEqual(
    job.results('plain').filter((line) => !('split' in (line as object))),
  );
  expect(file('averaging', MODEL_FILE).equals(file('plain', MODEL_FILE))).toBe(true);
  expect(file('averaging', EMA_FILE).equals(file('averaging', MODEL_FILE))).toBe(false);
  expect(readCheckpoint(job.checkpoint('averaging')).ema).toBe(true);
  expect(readCheckpoint(job.checkpoint('plain')).ema).toBe(false);
  const averaged = validations('averaging');
  const raw = validations('plain');
  expect(averaged).toHaveLength(raw.length);
  averaged.forEach(({ weights, loss }, i) => {
    expect(weights).toBe('ema');
    expect(raw[i]).not.toHaveProperty('weights');
    expect(loss).not.toBe(raw[i]!.loss);
  });
});

test('the average is that of the weights of every step, its decay warming up', async () => {
  await job.train('steps', [...AVERAGING, 'train.steps=6', 'train.checkpoint_every=1', 'train.keep_checkpoints=6']);
  const read = async (name: string, step: number): Promise<Float32Array> => {
    using tensors = await SafetensorsFile.open(join(job.checkpoint('steps', step), name));
    return tensors.read('lm_head.weight') as Float32Array;
  };
  let expected = await read(EMA_FILE, 1);
  for (let step = 2; step <= 6; step++) {
    const weight = await read(MODEL_FILE, step);
    const share = 1 - (1 + step) / (10 + step);
    expected = expected.map((value, i) => value + share * (weight[i]! - value));
    const average = await read(EMA_FILE, step);
    expect(average.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0)).toBeLessThan(1e-6);
  }
});

test('stopped and resumed, or with other threads, the average is the same bits', async () => {
  const stop = new AbortController();
  const progress = { ...silent, step: ({ step }: { step: number }) => step === 20 && stop.abort() };
  await job.train('resumed', AVERAGING, { progress, stop: stop.signal });
  expect((await job.train('resumed', AVERAGING, { resume: true })).finished).toBe(true);
  await job.train('threads', [...AVERAGING, 'train.threads=1']);
  for (const run of ['resumed', 'threads']) {
    expect(job.results(run)).toEqual(job.results('averaging'));
    for (const name of [MODEL_FILE, EMA_FILE]) expect(file(run, name).equals(file('averaging', name))).toBe(true);
  }
});

test('a checkpoint with a damaged average is passed over', async () => {
  await job.train('damaged', AVERAGING);
  truncateSync(join(job.checkpoint('damaged'), EMA_FILE), 100);
  const said: string[] = [];
  const progress = { ...silent, say: (sentence: string) => void said.push(sentence) };
  await job.train('damaged', AVERAGING, { resume: true, progress });
  expect(said.join('\n')).toMatch(/passing over.*ema\.safetensors[^]*resumed_from step 42/);
  expect(file('damaged', EMA_FILE).equals(file('averaging', EMA_FILE))).toBe(true);
});

test('a run goes on only with the decay it began with', async () => {
  for (const other of [[], ['train.ema_decay=0.99']])
    await expect(job.train('averaging', other, { resume: true })).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      message: expect.stringContaining('train.ema_decay was 0.9'),
    });
  expect(() => readRunConfig(job.config, ['train.ema_decay=1'])).toThrow('train.ema_decay must be less than 1');
});

test('generate can use the average, which is as a model of it alone', async () => {
  const config = { vocab: 24, d_model: 32, n_layers: 1, n_heads: 4, ffn_dim: 48, modalities: ['a'] };
  const limits = { tokens: 16, positions: 16, kv_slots: 16 };
  await using model = await Model.create(config, { ...limits, ema: true });
  await using other = await Model.create(config, { ...limits, seed: 7 });
  const path = join(job.folder, 'other.safetensors');
  await other.save(path);
  await model.load(path, ['ema']);
  const prompts = [{ token: [1, 5], modality: [0, 0] }];
  const run = (of: Model, weights?: WeightKind) =>
    generate(of, prompts, { maxTokens: 12, temperature: 1, ...(weights ? { weights } : {}) });
  expect(await run(model, 'ema')).toEqual(await run(other));
  expect(await run(model)).toEqual(await run(model, 'raw'));
  expect(await run(model)).not.toEqual(await run(other));
  await expect(run(other, 'ema')).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
});

test('train() averages too', async () => {
  const config = { vocab: 24, d_model: 32, n_layers: 1, n_heads: 4, ffn_dim: 48, modalities: ['a'] };
  const documents = Array.from({ length: 8 }, (_, d) => ({
    token: Array.from({ length: 12 }, (_, i) => (d + i) % 24),
    modality: new Array<number>(12).fill(0),
  }));
  await using model = await Model.create(config, { tokens: 16, ema: true });
  const initial = await model.readTensor('ema', 'lm_head.weight');
  for await (const _ of train(model, documents, { steps: 2, emaDecay: 0.99 })) continue;
  const average = await model.readTensor('ema', 'lm_head.weight');
  expect(average).not.toEqual(initial);
  expect(average).not.toEqual(await model.readTensor('weight', 'lm_head.weight'));
});
