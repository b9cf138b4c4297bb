import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Model } from '../../lib/model/model.js';
import { makeBatch, TINY, weightBytes } from './tiny_model.js';

const HEAD = 'lm_head.weight';
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mot-ema-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

describe.each(['reference', 'cpu'] as const)('%s', (device) => {
  test('the average begins with the initial weights and takes its share of every update', async () => {
    await using model = await Model.create(TINY, { device, tokens: 32, ema: true, seed: 4 });
    const expected: Record<string, Float32Array> = {};
    for (const { name } of model.tensors()) {
      expected[name] = await model.readTensor('ema', name);
      expect(expected[name]).toEqual(await model.readTensor('weight', name));
    }
    for (const [i, emaDecay] of [0.25, undefined, 0.9].entries()) {
      await model.step([makeBatch(32)], { lr: 1e-2, step: i + 1, emaDecay });
      for (const { name } of model.tensors()) {
        const weight = await model.readTensor('weight', name);
        const average = await model.readTensor('ema', name);
        const share = emaDecay === undefined ? 0 : 1 - emaDecay;
        expected[name] = expected[name]!.map((value, k) => value + share * (weight[k]! - value));
        expect(largestDifference(average, expected[name])).toBeLessThan(1e-6);
        expect(largestDifference(average, weight)).toBeGreaterThan(1e-4);
      }
    }
    const { arenaBytes, highWaterBytes } = model.memory();
    expect(highWaterBytes).toBe(arenaBytes);
  });

  test('training is the same bits with an average as without, and evaluation uses either', async () => {
    const path = join(folder, `${device}.safetensors`);
    await using plain = await Model.create(TINY, { device, tokens: 32 });
    await using averaging = await Model.create(TINY, { device, tokens: 32, ema: true });
    const batch = makeBatch(32);
    for (let step = 1; step <= 4; step++) {
      const expected = await plain.step([batch], { lr: 1e-2, step });
      const { loss } = await averaging.step([batch], { lr: 1e-2, step, emaDecay: 0.5 });
      expect(loss).toBe(expected.loss);
      await averaging.evaluate(batch, { weights: 'ema' });
    }
    expect(await weightBytes(averaging)).toEqual(await weightBytes(plain));
    // A file of the average is one of weights.
    await averaging.save(path, ['ema']);
    await using loaded = await Model.create(TINY, { device, tokens: 32, seed: null, training: false });
    await loaded.load(path);
    const { loss } = await averaging.evaluate(batch, { weights: 'ema' });
    expect(loss).toBe((await loaded.evaluate(batch)).loss);
    expect(loss).toBeGreaterThan((await averaging.evaluate(batch)).loss);
    // And it comes back.
    await using resumed = await Model.create(TINY, { device, tokens: 32, ema: true, seed: 9 });
    await resumed.load(path, ['ema']);
    expect((await resumed.evaluate(batch, { weights: 'ema' })).loss).toBe(loss);
  });
});

test('the average has the same bits with any number of threads', async () => {
  const averages: Float32Array[] = [];
  for (const threads of [1, 3]) {
    // Large enough that a tensor is more than one task.
    await using model = await Model.create({ ...TINY, vocab: 5000 }, { tokens: 32, threads, ema: true });
    for (let step = 1; step <= 2; step++) await model.step([makeBatch(32)], { lr: 1e-2, step, emaDecay: 0.75 });
    averages.push(await model.readTensor('ema', HEAD));
  }
  expect(averages[1]).toEqual(averages[0]);
});

test('a step that changes no weights leaves the average too', async () => {
  await using model = await Model.create(TINY, { tokens: 32, ema: true });
  await model.writeTensor('weight', HEAD, new Float32Array(64 * 32).fill(3e38));
  const before = await model.readTensor('ema', HEAD);
  const { applied } = await model.step([makeBatch(32)], { lr: 1e-2, step: 1, emaDecay: 0.5 });
  expect(applied).toBe(false);
  expect(await model.readTensor('ema', HEAD)).toEqual(before);
});

test('what does not go together is refused', async () => {
  await using plain = await Model.create(TINY, { tokens: 32 });
  await using averaging = await Model.create(TINY, { tokens: 32, ema: true });
  const batch = makeBatch(32);
  const cases: [Promise<unknown>, string, RegExp][] = [
    [Model.create(TINY, { tokens: 8, training: false, ema: true }), 'ERR_ARGUMENT', /ema needs training/],
    [plain.evaluate(batch, { weights: 'ema' }), 'ERR_UNSUPPORTED', /created with ema/],
    [plain.step([batch], { lr: 1, step: 1, emaDecay: 0.9 }), 'ERR_UNSUPPORTED', /created with ema/],
    [plain.readTensor('ema', HEAD), 'ERR_ARGUMENT', /ema: true/],
    [averaging.evaluate(batch, { weights: 'average' as never }), 'ERR_ARGUMENT', /raw.*ema/],
    [averaging.step([batch], { lr: 1, step: 1, emaDecay: 1.5 }), 'ERR_ARGUMENT', /emaDecay/],
    [averaging.save(join(folder, 'both'), ['weight', 'ema']), 'ERR_ARGUMENT', /same names/],
  ];
  for (const [promise, code, message] of cases)
    await expect(promise).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
});
