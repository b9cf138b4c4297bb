import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readRunConfig } from '../../lib/config/run_config.js';
import type { Rate } from '../../lib/config/rates.js';
import { Model, type ModelConfigInput } from '../../lib/model/model.js';
import { MODEL_FILE } from '../../lib/train/checkpoint.js';
import { SafetensorsFile } from '../../lib/io/safetensors.js';
import { lrScales } from '../../lib/train/rates.js';
import { silent } from '../../lib/train/progress.js';
import { train } from '../../lib/train/train.js';
import { TinyJob } from './tiny_job.js';

let job: TinyJob;
beforeAll(async () => {
  job = await TinyJob.create(6);
  await job.train('start');
}, 60_000);
afterAll(() => job.remove());

/** Scale of each tensor by name, of a model of text and image. */
function scalesOf(rates: Rate[], more: Partial<ModelConfigInput> = {}): Record<string, number> {
  const base = { vocab: 40, d_model: 32, n_layers: 2, n_heads: 4, ffn_dim: 48, modalities: ['text', 'image'] };
  const { config, tensors } = Model.describe({ ...base, ...more }, { tokens: 16 });
  const scales = lrScales(config, tensors, rates, { what: 'train.rates', code: 'ERR_CONFIG' });
  return Object.fromEntries(tensors.map(({ name }, i) => [name, scales[i]!]));
}

test('later entries win, and keys left out match all', () => {
  const scales = scalesOf([
    { scale: 0.5 },
    { tower: 'text', scale: 0 },
    { part: 'mlp', scale: 2 },
    { tower: 'image', part: 'mlp', scale: 3 },
    { part: 'lm_head', scale: 4 },
  ]);
  for (const [name, scale] of Object.entries(scales)) {
    const [, , tower] = name.split('.');
    const mlp = /\.(mlp\.|ffn_norm)/.test(name);
    const expected =
      name === 'lm_head.weight' ? 4 : mlp ? { text: 2, image: 3 }[tower!] : /\.text\./.test(name) ? 0 : 0.5;
    expect([name, scale]).toEqual([name, expected]);
  }
});

test('every part can be named, and means its tensors only', () => {
  const models: [Rate['part'], Partial<ModelConfigInput>, RegExp][] = [
    ['self_attn', {}, /\.(self_attn\.|attention_norm)/],
    ['mlp', { experts: { text: { count: 2 } } }, /\.(mlp\.|ffn_norm)/],
    ['final', {}, /^norm\./],
    ['norms', { untied: { norms: true, self_attn: false, mlp: false } }, /_norm\.weight/],
    ['embed_tokens', {}, /^embed_tokens/],
    ['lm_head', {}, /^lm_head/],
    ['diffusion', { diffusion: { modality: 'image', patch_dim: 12 } }, /^(patch_in|patch_out|time_mlp)/],
  ];
  for (const [part, more, pattern] of models) {
    const scaled = Object.entries(scalesOf([{ part, scale: 0 }], more)).filter(([, scale]) => scale === 0);
    const names = Object.keys(scalesOf([{ scale: 1 }], more)).filter(
      (name) => pattern.test(name) && !/[qk]_norm/.test(part === 'norms' ? name : ''),
    );
    expect(scaled.map(([name]) => name)).toEqual(names);
    expect(names.length).toBeGreaterThan(0);
  }
});

test.each<[string, RegExp]>([
  ['[{ tower: sound, scale: 0 }]', /train\.rates\[0\] names tower sound.*self_attn of text, image, speech; mlp of/],
  ['[{ scale: 1 }, { tower: text, part: lm_head, scale: 0 }]', /train\.rates\[1\] names tower text, part lm_head/],
  ['[{ part: diffusion, scale: 0 }]', /part diffusion.*final of text, image, speech; lm_head\./],
  ['[{ scale: 0 }]', /train\.rates freezes every weight/],
])('refused before a step: %s', async (rates, message) => {
  await expect(job.train('refused', [`train.rates=${rates}`])).rejects.toMatchObject({
    code: 'ERR_CONFIG',
    message: expect.stringMatching(message),
  });
  expect(existsSync(job.out('refused'))).toBe(false);
});

test.each([
  ['[{ part: atention, scale: 0 }]', /train\.rates\[0\]\.part/],
  ['[{ part: mlp }]', /train\.rates\[0\]\.scale/],
  ['[{ part: mlp, scale: -1 }]', /train\.rates\[0\]\.scale/],
  ['[{ part: mlp, lr: 1 }]', /lr/],
  ['[]', /train\.rates/],
])('not a config: %s', (rates, message) => {
  expect(() => readRunConfig(job.config, [`train.rates=${rates}`])).toThrow(message);
});

test('a run from another trains one tower only, resumes exactly, and refuses other rates', async () => {
  const settings = (rates: string): string[] => [`train.from=${job.out('start')}`, `train.rates=${rates}`];
  const speech = settings('[{ scale: 0 }, { tower: speech, scale: 0.5 }]');
  await job.train('speech', speech);
  using before = await SafetensorsFile.open(join(job.checkpoint('start'), MODEL_FILE));
  using after = await SafetensorsFile.open(join(job.checkpoint('speech'), MODEL_FILE));
  for (const { name } of before.tensors) {
    if (/\.speech\./.test(name)) expect([name, after.read(name)]).not.toEqual([name, before.read(name)]);
    else expect([name, after.read(name)]).toEqual([name, before.read(name)]);
  }
  const stop = new AbortController();
  const progress = { ...silent, step: () => stop.abort() };
  await job.train('resumed', speech, { progress, stop: stop.signal });
  for (const other of [[speech[0]!], settings('[{ scale: 0 }, { tower: speech, scale: 0.25 }]')])
    await expect(job.train('resumed', other, { resume: true })).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      message: expect.stringContaining('train.rates was [{"scale":0},{'),
    });
  await job.train('resumed', speech, { resume: true });
  job.finalFiles('speech').forEach((file, i) => expect(file.equals(job.finalFiles('resumed')[i]!)).toBe(true));
});

test('train of the library takes the same, and says what is wrong', async () => {
  const config = { vocab: 16, d_model: 32, n_layers: 1, n_heads: 4, modalities: ['a', 'b'] };
  await using model = await Model.create(config, { tokens: 16 });
  const documents = Array.from({ length: 4 }, () => ({ token: [1, 2, 3, 4], modality: [0, 0, 1, 1] }));
  const read = async (): Promise<Float32Array[]> =>
    Promise.all(['norm.a.weight', 'norm.b.weight'].map((name) => model.readTensor('weight', name)));
  const before = await read();
  for await (const _ of train(model, documents, { steps: 2, seqLen: 4, rates: [{ tower: 'a', scale: 0 }] })) continue;
  const after = await read();
  expect(after[0]).toEqual(before[0]);
  expect(after[1]).not.toEqual(before[1]);
  await expect(train(model, documents, { rates: [{ tower: 'c', scale: 0 }] }).next()).rejects.toMatchObject({
    code: 'ERR_ARGUMENT',
    message: expect.stringMatching(/rates\[0\] names tower c/),
  });
});
