import { expect, test } from '@jest/globals';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { flopsPerToken } from '../../lib/model/flops.js';
import { parseModelConfig } from '../../lib/config/model_config.js';
import { Model, type ModelConfigInput } from '../../lib/model/model.js';
import { makeBatch, TINY, weightBytes } from './tiny_model.js';

/** Text by expert choice, images by token choice. */
const MIXTURE: ModelConfigInput = {
  ...TINY,
  experts: { text: 4, image: { count: 3, routing: 'token_choice', top_k: 2, balance_loss: 0.02 } },
};

test('tensors of experts, in checkpoint order', async () => {
  await using model = await Model.create(MIXTURE, { tokens: 64 });
  const names = model
    .tensors()
    .map(({ name, shape }) => `${name} ${shape.join('x')}`)
    .filter((name) => /^layers\.1\.text\.mlp\.(router|experts\.[03])/.test(name));
  expect(names).toEqual([
    'layers.1.text.mlp.router.weight 4x32',
    ...[0, 3].flatMap((e) => [
      `layers.1.text.mlp.experts.${e}.gate_proj.weight 48x32`,
      `layers.1.text.mlp.experts.${e}.up_proj.weight 48x32`,
      `layers.1.text.mlp.experts.${e}.down_proj.weight 32x48`,
    ]),
  ]);
});

test('training goes on after save and load with the same bits, and reports the balance', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'mot-experts-'));
  try {
    const batches = [1, 2, 3, 4].map((seed) => makeBatch(48, 64, seed));
    const micro = (i: number): ReturnType<typeof makeBatch>[] => [batches[i]!, batches[(i + 1) % 4]!];
    const file = join(folder, 'state.safetensors');
    await using model = await Model.create(MIXTURE, { tokens: 48, seed: 5 });
    const first = await model.step(micro(0), { lr: 1e-2, step: 1 });
    expect(first.balanceLoss).toBeGreaterThan(0.9);
    expect(first.balanceLoss).toBeLessThan(1.2); // new routers are almost even
    await model.save(file, ['weight', 'm', 'v']);
    const expected = await model.step(micro(1), { lr: 1e-2, step: 2 });
    await using resumed = await Model.create(MIXTURE, { tokens: 48, seed: 6 });
    await resumed.load(file, ['weight', 'm', 'v']);
    const { elapsedMs: _, ...rest } = await resumed.step(micro(1), { lr: 1e-2, step: 2 });
    expect(expected).toMatchObject(rest);
    expect((await weightBytes(resumed)).equals(await weightBytes(model))).toBe(true);
    await using plain = await Model.create(TINY, { tokens: 48 });
    expect((await plain.evaluate(batches[0]!)).balanceLoss).toBe(0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a model without experts plans nothing for them', () => {
  const names = (config: ModelConfigInput): string[] =>
    Model.describe(config, { tokens: 64 }).plan.map(({ name }) => name);
  expect(names(MIXTURE).filter((name) => /rout|gate$|place|balance/.test(name)).length).toBeGreaterThan(10);
  expect(names(TINY).filter((name) => /rout|gate$|place|balance/.test(name))).toEqual([]);
});

test('more experts than a micro-batch has tokens are refused before training', async () => {
  const many = { ...TINY, experts: { text: 65 } };
  await expect(Model.create(many, { tokens: 64 })).rejects.toMatchObject({
    code: 'ERR_CONFIG',
    message: expect.stringMatching(/experts in tower text.*64 tokens.*65/),
  });
  await using _ = await Model.create(many, { tokens: 65 });
});

test('FLOPs count the experts that a token goes to, and its router', () => {
  const dense = parseModelConfig({ ...TINY, untied: false });
  const of = (experts: ModelConfigInput['experts']): number =>
    flopsPerToken(parseModelConfig({ ...TINY, untied: false, experts }), 10).forward - flopsPerToken(dense, 10).forward;
  const layers = 2;
  const mlp = 2 * 3 * 32 * 48;
  expect(of({ shared: 4 })).toBe(layers * 2 * 32 * 4);
  expect(of({ shared: { count: 4, capacity_factor: 2 } })).toBe(layers * (2 * 32 * 4 + mlp));
  expect(of({ shared: { count: 4, routing: 'token_choice', top_k: 3 } })).toBe(layers * (2 * 32 * 4 + 2 * mlp));
});
