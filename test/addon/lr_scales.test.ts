import { describe, expect, test } from '@jest/globals';
import { Model, type TensorKind } from '../../lib/model/model.js';
import { makeBatch, TINY } from './tiny_model.js';

const KINDS = ['weight', 'm', 'v', 'ema'] as const satisfies TensorKind[];
/** Large weight decay, so that one too many would show. */
const SETTINGS = { weightDecay: 0.5, emaDecay: 0.5 };

/** The bits of every array of every tensor, by name and kind. */
async function contents(model: Model): Promise<Map<string, string>> {
  const all = new Map<string, string>();
  for (const { name } of model.tensors())
    for (const kind of KINDS) {
      const values = await model.readTensor(kind, name);
      all.set(`${name} ${kind}`, Buffer.from(values.buffer).toString('base64'));
    }
  return all;
}

describe.each(['reference', 'cpu'] as const)('%s', (device) => {
  const create = (): Promise<Model> => Model.create(TINY, { device, tokens: 32, ema: true });

  test('what is frozen keeps its bits, while all else moves', async () => {
    await using model = await create();
    const frozen = (name: string): boolean => /\.image\.mlp\.|^lm_head|\.text\.self_attn\.k_proj/.test(name);
    const scales = model.tensors().map(({ name }) => (frozen(name) ? 0 : 1));
    const before = await contents(model);
    for (let step = 1; step <= 3; step++)
      await model.step([makeBatch(32)], { lr: 1e-2, step, lrScales: scales, ...SETTINGS });
    const moved = new Set<boolean>();
    for (const [key, values] of await contents(model)) {
      const keeps = frozen(key.split(' ')[0]!);
      moved.add(!keeps);
      if (keeps) expect([key, values]).toEqual([key, before.get(key)]);
      else expect([key, values]).not.toEqual([key, before.get(key)]);
    }
    expect(moved.size).toBe(2);
  });

  test.each([0, 1e-3])('a tensor trained alone at a scale has the bits of that rate (clip %d)', async (clip) => {
    const [lr, scale] = [1e-2, 0.3];
    await using scaled = await create();
    await using plain = await create();
    const name = 'layers.1.text.mlp.up_proj.weight';
    const only = (value: number): number[] => scaled.tensors().map((tensor) => (tensor.name === name ? value : 0));
    const before = await plain.readTensor('weight', name);
    for (let step = 1; step <= 3; step++) {
      const [a, b] = [
        await scaled.step([makeBatch(32)], { lr, step, clip, lrScales: only(scale), ...SETTINGS }),
        await plain.step([makeBatch(32)], { lr: lr * scale, step, clip, lrScales: only(1), ...SETTINGS }),
      ];
      expect([a.loss, a.gradNorm]).toEqual([b.loss, b.gradNorm]);
      // The norm is of that tensor alone.
      const norm = Math.hypot(...(await plain.readTensor('gradient', name)));
      expect(Math.abs(b.gradNorm / norm - 1)).toBeLessThan(1e-6);
    }
    expect(await contents(scaled)).toEqual(await contents(plain));
    expect(await plain.readTensor('weight', name)).not.toEqual(before);
  });

  test('each scale has its tensors: as trained with that rate everywhere', async () => {
    const rates = [1e-2, 5e-3, 0] as const;
    const scales = [1, 0.5, 0];
    await using model = await create();
    await using one = await create();
    await using half = await create();
    const which = model.tensors().map((_, i) => i % 3);
    // One update without clipping: the norm cannot matter, and the gradients are the same.
    const options = { step: 1, clip: 0, ...SETTINGS };
    await model.step([makeBatch(32)], { lr: 1e-2, lrScales: which.map((w) => scales[w]!), ...options });
    await one.step([makeBatch(32)], { lr: rates[0], ...options });
    await half.step([makeBatch(32)], { lr: rates[1], ...options });
    await using fresh = await create();
    const sources = await Promise.all([one, half, fresh].map(contents));
    const mixed = await contents(model);
    for (const [i, { name }] of model.tensors().entries())
      for (const kind of KINDS) {
        const key = `${name} ${kind}`;
        expect([key, mixed.get(key)]).toEqual([key, sources[which[i]!]!.get(key)]);
      }
    // Afterwards without scales: all move again.
    const before = await model.readTensor('weight', 'lm_head.weight');
    await model.step([makeBatch(32)], { lr: 1e-2, ...options, step: 2 });
    expect(await model.readTensor('weight', 'lm_head.weight')).not.toEqual(before);
  });

  test('scales of 1 are the same bits as none', async () => {
    await using ones = await create();
    await using none = await create();
    const lrScales = ones.tensors().map(() => 1);
    for (let step = 1; step <= 2; step++) {
      const a = await ones.step([makeBatch(32)], { lr: 1e-2, step, lrScales });
      expect(a.gradNorm).toBe((await none.step([makeBatch(32)], { lr: 1e-2, step })).gradNorm);
    }
    expect(await contents(ones)).toEqual(await contents(none));
  });

  test('wrong scales are refused and change nothing', async () => {
    await using model = await create();
    const before = await contents(model);
    const scales = model.tensors().map(() => 1);
    await expect(model.step([makeBatch(32)], { lr: 1e-2, step: 1, lrScales: scales.slice(1) })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining(`each of ${scales.length} tensors, got ${scales.length - 1}`),
    });
    await expect(model.adamw({ lr: 1e-2, step: 1, lrScales: [-1] })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
      message: expect.stringContaining('lrScales'),
    });
    expect(await contents(model)).toEqual(before);
  });
});
