import { describe, expect, test } from '@jest/globals';
import { Model, type ModelConfigInput, type TensorKind } from '../../lib/model/model.js';
import { makeBatch, PATCH_DIM, TINY, withImage } from './tiny_model.js';

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

  const MOE: ModelConfigInput = { ...TINY, experts: { text: 2 } };
  const DIFFUSION: ModelConfigInput = { ...TINY, diffusion: { patch_dim: PATCH_DIM } };
  const some: [what: string, config: ModelConfigInput, trained: RegExp][] = [
    ['a tower', TINY, /\.image\./],
    ['k of q, k and v', TINY, /k_proj/],
    ['the last layer', TINY, /^layers\.1\./],
    ['the embedding', TINY, /^embed_tokens/],
    ['the head', TINY, /^lm_head/],
    ['an expert and the routers', MOE, /experts\.1|router/],
    ['what patches come in by', DIFFUSION, /^patch_in|^time_mlp/],
    ['what patches are predicted with', DIFFUSION, /^patch_out/],
  ];

  test.each(some)('gradients without use are left out, and no bit changes: %s trains', async (_, config, trained) => {
    const create = (): Promise<Model> => Model.create(config, { device, tokens: 32, ema: true });
    await using model = await create();
    await using whole = await create();
    const lrScales = model.tensors().map(({ name }) => (trained.test(name) ? 1 : 0));
    expect(new Set(lrScales).size).toBe(2);
    const batches = config === DIFFUSION ? [withImage(2, 8), withImage(5, 4)] : [makeBatch(32), makeBatch(16)];
    const targets = batches.reduce((sum, { target }) => sum + target.filter((id) => id >= 0).length, 0);
    for (let step = 1; step <= 2; step++) {
      const options = { lr: 1e-2, step, lrScales, ...SETTINGS };
      const { gradNorm } = await model.step(batches, options);
      // backward knows of no scales and computes all gradients.
      await whole.zeroGradients();
      for (const batch of batches) await whole.backward(batch, { totalTargets: targets, totalImages: 2 });
      expect((await whole.adamw(options)).gradNorm).toBe(gradNorm);
      expect(gradNorm).toBeGreaterThan(0);
    }
    expect(await contents(model)).toEqual(await contents(whole));
  });

  test('what is frozen costs no products in backward', async () => {
    await using model = await create();
    // Useful FLOPs of a step by op, while tensors whose name matches train.
    const flops = async (trained: RegExp): Promise<Record<string, number>> => {
      const lrScales = model.tensors().map(({ name }) => (trained.test(name) ? 1 : 0));
      await model.startProfile();
      await model.step([makeBatch(32)], { lr: 1e-2, step: 1, lrScales });
      const sums: Record<string, number> = {};
      for (const { op, flops } of await model.takeProfile()) sums[op] = (sums[op] ?? 0) + flops;
      return sums;
    };
    const all = await flops(/./);
    // Half of the tokens are of either modality.
    const tower = await flops(/\.image\./);
    expect(tower.grouped_gemm_d_w).toBe(all.grouped_gemm_d_w! / 2);
    expect(tower.grouped_gemm_d_x).toBe(all.grouped_gemm_d_x);
    expect(tower.linear_cross_entropy).toBe((all.linear_cross_entropy! * 2) / 3);
    const last = await flops(/^layers\.1\.|^lm_head/);
    expect(last).toMatchObject({
      grouped_gemm_d_w: all.grouped_gemm_d_w! / 2,
      grouped_gemm_d_x: all.grouped_gemm_d_x! / 2,
      attention_backward: all.attention_backward! / 2,
      linear_cross_entropy: all.linear_cross_entropy,
    });
    expect(last).not.toHaveProperty('embedding_backward');
    const head = await flops(/^lm_head/);
    for (const op of ['grouped_gemm_d_w', 'grouped_gemm_d_x', 'attention_backward'])
      expect(head).not.toHaveProperty(op);
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
