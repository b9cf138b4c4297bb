import { afterAll, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readRunConfig } from '../../lib/config/run_config.js';
import { runTraining } from '../../lib/train/run.js';
import { writeTinyDataset } from './tiny_dataset.js';

const folder = mkdtempSync(join(tmpdir(), 'mot-profile-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Trace {
  traceEvents: { ph: string; tid: number; name: string; ts: number; dur: number; args?: Record<string, number> }[];
}

test('a profile is a Chrome trace of three steps, and a list of their ops', async () => {
  await writeTinyDataset(join(folder, 'data'));
  const config = join(folder, 'tiny.yaml');
  writeFileSync(
    config,
    `model: {d_model: 32, n_layers: 2, n_heads: 4, head_dim: 8, ffn_dim: 48}
data: {dataset: ${JSON.stringify(join(folder, 'data'))}}
train: {steps: 7, sequences: 2, seq_len: 48, warmup_steps: 1, validate_every: 0, dtype: f32}
`,
  );
  const profile = join(folder, 'trace.json');
  const { ops } = await runTraining(readRunConfig(config, [`out=${join(folder, 'run')}`]), { profile });

  const { traceEvents } = JSON.parse(readFileSync(profile, 'utf8')) as Trace;
  const spans = traceEvents.filter(({ ph }) => ph === 'X');
  const steps = spans.filter(({ tid }) => tid === 1);
  const calls = spans.filter(({ tid }) => tid === 2);
  expect(steps.map(({ name }) => name)).toEqual(['step 3', 'step 4', 'step 5']);
  // Two layers; a branch projects twice.
  expect(calls.filter(({ name }) => name === 'grouped_gemm_d_w')).toHaveLength(3 * 2 * 4);
  expect(calls.filter(({ name }) => name === 'adamw')).toHaveLength(3);
  for (const { ts, dur, args } of calls) {
    const inside = steps.some((step) => ts >= step.ts && ts + dur <= step.ts + step.dur);
    expect(inside).toBe(true);
    expect(args!['bytes']).toBeGreaterThan(0);
    expect(args!['share_of_limit']).toBeGreaterThan(0);
  }

  const gemm = ops!.find(({ op }) => op === 'grouped_gemm_forward')!;
  expect(gemm.calls).toBe(8);
  expect(ops!.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1);
  expect(ops!.map(({ ms }) => ms)).toEqual(ops!.map(({ ms }) => ms).sort((a, b) => b - a));
});

test('a profile that cannot be written is told before the first step', async () => {
  const config = readRunConfig(join(folder, 'tiny.yaml'), [`out=${join(folder, 'other')}`]);
  await expect(runTraining(config, { profile: join(folder, 'none', 'trace.json') })).rejects.toMatchObject({
    code: 'ERR_FILE_WRITE',
  });
});
