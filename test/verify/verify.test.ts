import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compare } from '../../lib/verify/judge.js';
import { packagedGoldenFiles, verifyFile, type VerifyResult } from '../../lib/verify/verify.js';
import { alter, goldenPath, readHeader, goldenCases } from './golden_files.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mot-verify-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const failures = (result: VerifyResult): string[] =>
  result.comparisons
    .filter(({ passed }) => !passed)
    .map(({ name, error, elementError }) => `${name}: ${error}, ${elementError}`);

describe.each([
  ['reference', 'f32'],
  ['cpu', 'f32'],
  ['cpu', 'bf16'],
] as const)('%s %s', (device, dtype) => {
  test.each(goldenCases)('%s', async (name) => {
    const result = await verifyFile(goldenPath(name), { device, dtype });
    expect(failures(result)).toEqual([]);
    expect(result.passed).toBe(true);
    // Every output, loss, gradient and weight was looked at.
    const compared = new Set(result.comparisons.map((row) => row.name));
    const judged = Object.keys(readHeader(goldenPath(name)).header).filter((tensor) =>
      /^(out|g|train|after)\./.test(tensor),
    );
    expect(judged.filter((tensor) => !compared.has(tensor))).toEqual([]);
  });
});

test.each(['f32', 'bf16'] as const)('one and two threads compute the same bits, %s', async (dtype) => {
  for (const name of goldenCases) {
    const written: Buffer[] = [];
    for (const threads of [1, 2]) {
      const out = join(folder, `${name}-${threads}.safetensors`);
      await verifyFile(goldenPath(name), { dtype, threads, out });
      written.push(readFileSync(out));
    }
    expect(written[0]!.equals(written[1]!)).toBe(true);
  }
});

test('of experts in bf16 only losses are judged, and it is said', async () => {
  const { comparisons, note } = await verifyFile(goldenPath('moe_4x_expert_choice'), { dtype: 'bf16' });
  expect(note).toMatch(/only losses are judged/);
  const judged = comparisons.filter(
    ({ name, kind, bound }) => bound !== null && kind !== 'consistency' && !name.endsWith('(f32)'),
  );
  expect(judged.map(({ name }) => name).every((name) => /loss/.test(name))).toBe(true);
  expect(judged.length).toBeGreaterThan(3);
  expect((await verifyFile(goldenPath('dense'), { dtype: 'bf16' })).note).toBeUndefined();
});

test('what is written is a golden file with the same tensors', async () => {
  const from = goldenPath('mot_pre_norm_gqa');
  const out = join(folder, 'out.safetensors');
  await verifyFile(from, { out });
  const shapes = (path: string): Record<string, unknown> =>
    Object.fromEntries(
      Object.entries(readHeader(path).header).map(([name, { dtype, shape }]) => [name, { dtype, shape }]),
    );
  expect(shapes(out)).toEqual(shapes(from));
  expect((await verifyFile(out)).passed).toBe(true);
});

describe('one altered number is noticed', () => {
  const little = (value: number): number => value * 1.01 + 1e-3;
  test.each([
    ['dense', 'p.layers.1.shared.mlp.down_proj.weight', 700],
    ['dense', 'p.embed_tokens.weight', 5],
    ['dense', 'g.lm_head.weight', 3000],
    ['dense', 'out.hidden', 17],
    ['dense', 'out.logits', 4000],
    ['dense', 'out.lm_loss.image', 0],
    ['dense', 'train.loss', 9],
    ['dense', 'train.grad_norm', 0],
    ['mot_absent_modality', 'p.layers.0.image.self_attn.k_proj.weight', 11],
    ['mot_absent_modality', 'p.norm.image.weight', 3],
    ['mot_absent_modality', 'g.layers.1.image.ffn_norm.weight', 0],
    ['mot_absent_modality', 'after.layers.0.image.mlp.up_proj.weight', 77],
    ['mot_odd_sizes', 'p.layers.0.speech.self_attn.q_proj.weight', 8000],
    ['mot_odd_sizes', 'g.layers.0.text.mlp.gate_proj.weight', 7199],
    ['moe_4x_expert_choice', 'p.layers.1.shared.mlp.router.weight', 40],
    ['moe_4x_expert_choice', 'g.layers.0.shared.mlp.router.weight', 40],
    ['hybrid_moe_text_tower', 'g.layers.1.text.mlp.experts.2.down_proj.weight', 99],
    ['mot_pre_norm_gqa', 'out.z_loss', 0],
    ['mot_pre_norm_gqa', 'out.loss', 0],
    ['transfusion', 'p.patch_in.weight', 100],
    ['transfusion', 'p.time_mlp.0.bias', 7],
    ['transfusion', 'in.latent', 11],
    ['transfusion', 'in.noise', 30],
    ['transfusion', 'out.diffusion_loss', 0],
    ['transfusion', 'g.time_mlp.2.weight', 500],
    ['transfusion', 'g.patch_out.bias', 2],
  ])('%s: %s[%d]', async (name, tensor, index) => {
    const path = join(folder, 'altered.safetensors');
    alter(goldenPath(name), path, tensor, index, little);
    for (const dtype of ['f32', 'bf16'] as const) expect((await verifyFile(path, { dtype })).passed).toBe(false);
  });

  test.each(['p.embed_tokens.weight', 'p.lm_head.weight'])(
    'any row of %s, whether or not its token occurs',
    async (tensor) => {
      const path = join(folder, 'altered.safetensors');
      for (let row = 0; row < 97; row += 4) {
        alter(goldenPath('dense'), path, tensor, row * 32 + (row % 32), little);
        expect([row, (await verifyFile(path)).passed]).toEqual([row, false]);
      }
    },
  );

  test('NaN never passes', async () => {
    const path = join(folder, 'altered.safetensors');
    for (const tensor of ['g.lm_head.weight', 'out.loss', 'train.loss', 'after.lm_head.weight', 'train.grad_norm']) {
      alter(goldenPath('dense'), path, tensor, 0, () => NaN);
      for (const dtype of ['f32', 'bf16'] as const) expect((await verifyFile(path, { dtype })).passed).toBe(false);
    }
    alter(goldenPath('dense'), path, 'p.lm_head.weight', 0, () => NaN);
    await expect(verifyFile(path)).rejects.toMatchObject({ code: 'ERR_NOT_FINITE' });
  });
});

describe('files that cannot be verified', () => {
  test('the packaged ones are those of the test folder', () => {
    expect(packagedGoldenFiles()).toEqual(goldenCases.map(goldenPath).sort());
  });

  test('truncated, foreign, missing', async () => {
    const path = join(folder, 'bad.safetensors');
    writeFileSync(path, readFileSync(goldenPath('dense')));
    truncateSync(path, 5000);
    await expect(verifyFile(path)).rejects.toMatchObject({ code: 'ERR_FILE_FORMAT' });
    writeFileSync(path, 'no tensors here');
    await expect(verifyFile(path)).rejects.toMatchObject({ code: 'ERR_FILE_FORMAT' });
    await expect(verifyFile(join(folder, 'none.safetensors'))).rejects.toMatchObject({ code: 'ERR_FILE_OPEN' });
  });
});

describe('compare', () => {
  const bound = { relative: 1e-3, element: 1e-2 };
  test.each<[string, number[], number[], boolean]>([
    ['equal', [1, 2], [1, 2], true],
    ['within', [1.0001, 2], [1, 2], true],
    ['norm over the bound', [1.005, 2.01], [1, 2], false],
    ['zero demands exact zero', [0, 1e-30], [0, 0], false],
    ['exact zero', [0, -0], [0, 0], true],
    ['NaN computed', [NaN, 2], [1, 2], false],
    ['NaN expected', [1, 2], [NaN, 2], false],
    ['NaN on both sides', [NaN], [NaN], false],
    ['infinity on both sides', [Infinity], [Infinity], false],
    ['nothing', [], [], true],
  ])('%s', (_, x, y, passed) => {
    expect(compare('x', 'gradient', x, y, bound).passed).toBe(passed);
  });

  test('one wrong element of many fails, though the norm hardly moves', () => {
    const y = Array.from({ length: 100000 }, (_, i) => Math.sin(i));
    const x = y.with(777, y[777]! + 0.1);
    const row = compare('x', 'gradient', x, y, bound);
    expect(row.error).toBeLessThan(bound.relative);
    expect(row.passed).toBe(false);
    expect(row.worst?.index).toBe(777);
  });
});
