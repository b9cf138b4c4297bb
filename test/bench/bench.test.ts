import { describe, expect, test } from '@jest/globals';
import { gemmSuite, groupedSuite, lossSuite } from '../../lib/bench/ops.js';
import { presetBatch, presetModelConfig, timePreset } from '../../lib/bench/preset.js';
import { runSuites } from '../../lib/bench/run.js';
import * as shapes from '../../lib/bench/shapes.js';
import { timeSteps } from '../../lib/bench/step.js';
import { startupSuite } from '../../lib/bench/startup.js';
import type { BenchCase, BenchContext, BenchResult } from '../../lib/bench/types.js';
import { makeBatch, modelConfig, stepFlops, type ModelSize } from '../../lib/bench/workload.js';
import { loadAddon } from '../../lib/native/load.js';

const limits = { f32_gflops: 100, bf16_gflops: 200, read_gbps: 10, copy_gbps: 20 };
const context: BenchContext = { threads: 1, dtypes: ['f32'], repeats: () => 1, limits, progress: async () => {} };
const tiny: ModelSize = { d_model: 64, n_layers: 1, ffn_dim: 128, vocab: 50, sequences: 2, length: 256 };

/** Numbers of one round: all its quantiles are the one time, and the speed is the work / that time. */
function checkTimes({ median_ms, p10_ms, p90_ms, threads }: BenchCase): void {
  expect(median_ms).toBeGreaterThan(0);
  expect([p10_ms, p90_ms, threads]).toEqual([median_ms, median_ms, 1]);
}

test('a suite gives limits, machine, cases and shares, and its result when it is there', async () => {
  const seen: BenchResult[] = [];
  const results = await runSuites(['limits'], { threads: 1, repeats: 1, onResult: (result) => void seen.push(result) });
  expect(seen).toEqual(results);
  const { suite, machine, limits, summary, cases } = results[0]!;
  expect(suite).toBe('limits');
  expect(machine).toMatchObject({ instructions: loadAddon().cpu().variant, node: process.version });
  expect(Object.values(limits).every((limit) => limit > 0.1 && limit < 1e6)).toBe(true);
  // The probe of bf16 is the same instruction, or one that does more.
  expect(limits.bf16_gflops).toBeGreaterThan(0.5 * limits.f32_gflops);
  cases.forEach(checkTimes);
  expect(cases.map(({ limit }) => limit)).toEqual(Object.keys(limits));
  for (const { share_of_limit, limit, gflops, gbps } of cases)
    expect(share_of_limit).toBeCloseTo((gflops ?? gbps)! / limits[limit!], 10);
  const shares = cases.map(({ share_of_limit }) => share_of_limit!);
  expect(summary!.worst_share).toBe(Math.min(...shares));
  expect(summary!.mean_share).toBeCloseTo(shares.reduce((a, b) => a + b) / 4, 10);
});

test('the suite of start-up times parts of one process', async () => {
  const cases = await startupSuite(context);
  cases.forEach(checkTimes);
  const [addon, , step, whole] = cases.map(({ median_ms }) => median_ms) as [number, number, number, number];
  expect(addon + step).toBeLessThan(whole);
});

test('an unknown suite is told before any is run', async () => {
  const run = runSuites(['limits', 'gem'], { onResult: () => expect(true).toBe(false) });
  await expect(run).rejects.toMatchObject({ code: 'ERR_USAGE', message: expect.stringContaining('gem;') });
});

describe('steps of a preset', () => {
  test('have their time, memory and size', async () => {
    const cases = await timePreset(context, { name: 'emoji-tiny-dense', tokens: 96 });
    expect(cases.map(({ name }) => name)).toEqual([
      'forward+backward, emoji-tiny-dense',
      'optimizer, emoji-tiny-dense',
    ]);
    cases.forEach(checkTimes);
    const [step, optimizer] = cases as [BenchCase, BenchCase];
    expect(step.tokens_per_s! * step.median_ms).toBeCloseTo(96_000, 6);
    expect(step.peak_rss_mb!).toBeGreaterThan(step.plan_mb!);
    const { parameters } = step.shape as { parameters: number };
    expect(optimizer.gbps! * optimizer.median_ms * 1e6).toBeCloseTo(32 * parameters, 0);
  });

  test('with images as patches: half of the tokens, without the head, each image seen whole', () => {
    const config = presetModelConfig('transfusion-163m');
    const batch = presetBatch(config, 1024);
    expect(batch.latent).toHaveLength(512 * 32);
    expect([...batch.timestep!]).toHaveLength(2);
    expect([batch.kvStart[300], batch.kvEnd[256], batch.kvEnd[511], batch.kvEnd[512]]).toEqual([0, 512, 512, 513]);
    // Text up to its last token before an image; patches none, nor the token after them.
    expect(batch.target!.filter((target) => target >= 0)).toHaveLength(2 * 255);
    const { vocab, d_model } = config;
    const pairs = batch.kvEnd.reduce((sum, end, i) => sum + end - batch.kvStart[i]!, 0);
    const layers = 16 * (1024 * 6 * (4 * 768 ** 2 + 3 * 768 * config.ffn_dim) + 12 * 768 * pairs);
    const head = 510 * 6 * d_model * vocab;
    const patches = 3 * (512 * 4 * d_model * 32 + 2 * 4 * d_model ** 2);
    expect(stepFlops(config, batch) / (layers + head + patches)).toBeCloseTo(1, 10);
  });

  test('are refused before the process starts where they do not fit, or there is no such preset', async () => {
    const preset = { name: 'chameleon-7b', tokens: 2 ** 20 };
    await expect(timePreset(context, preset)).rejects.toMatchObject({ code: 'ERR_MEMORY' });
    await expect(timePreset(context, { name: 'emoji-tin', tokens: 8 })).rejects.toMatchObject({
      code: 'ERR_USAGE',
      message: expect.stringContaining('did you mean emoji-tiny?'),
    });
    const both = runSuites(['gemm'], { preset: { name: 'emoji-tiny', tokens: 8 } });
    await expect(both).rejects.toMatchObject({ code: 'ERR_USAGE', message: expect.stringContaining('suite step') });
  });
});

describe('suites of ops', () => {
  test('name cases that there are', () => {
    const { GROUPED_CASES, LOSS_CASES, ...lists } = shapes;
    const known = new Map(
      loadAddon()
        .cases()
        .map((info) => [info.name, info]),
    );
    for (const name of [...Object.values(lists), ...GROUPED_CASES, ...LOSS_CASES].flat())
      expect([name, known.has(name)]).toEqual([name, true]);
    // A pair is the same work: as many rows, inputs and outputs.
    for (const [a, b] of GROUPED_CASES) {
      const { towers: _, ...shape } = known.get(b)!.shape;
      expect(known.get(a)!.shape).toEqual({ ...shape, towers: 1 });
      expect(known.get(b)!.groups.reduce((sum, rows) => sum + rows)).toBe(shape['rows']);
    }
    expect(shapes.ATTENTION_CASES.map((name) => known.get(name)!.shape['documents'])).toEqual([4, 8, 32]);
    for (const [a, b] of LOSS_CASES) {
      const { rows, in_features, out_features } = known.get(a)!.shape;
      expect(known.get(b)!.shape).toMatchObject({ rows, d_model: in_features, vocab: out_features });
    }
  });

  test('name each call by its product and count its operations', async () => {
    const cases = await gemmSuite(context, ['grouped_gemm/rows_63']);
    expect(cases.map(({ name }) => name)).toEqual(['forward 63x100 k72', 'd_x 63x72 k100', 'd_w 100x72 k63']);
    for (const one of cases) {
      checkTimes(one);
      expect(one.gflops! * one.median_ms * 1e6).toBeCloseTo(2 * 63 * 100 * 72, 3);
      expect(one).toMatchObject({ op: 'grouped_gemm', limit: 'f32_gflops', shape: { rows: 63, in_features: 72 } });
    }
  });

  test('hold contenders of one round against each other', async () => {
    const pair = ['grouped_gemm/rows_6', 'grouped_gemm/rows_63'] as const;
    const [dense, grouped] = await groupedSuite(context, [pair]);
    expect(dense!.ratio_to_dense).toBeUndefined();
    expect(grouped!.ratio_to_dense).toBeCloseTo(grouped!.median_ms / dense!.median_ms, 10);
    const losses = await lossSuite(context, [['grouped_gemm/rows_63', 'linear_cross_entropy/strided']]);
    expect(losses.map(({ call }) => call)).toEqual(['forward', 'backward']);
    for (const { ratio_to_gemm } of losses) expect(ratio_to_gemm).toBeGreaterThan(0);
  });
});

test('the suite of steps compares dense, MoT and MoE on the same tokens', async () => {
  const cases = await timeSteps(context, [tiny]);
  expect(cases.map(({ name }) => name.split(',').slice(0, 2).join())).toEqual(
    ['dense', 'MoT 2', 'MoT 3', 'MoE 4x'].flatMap((model) => [`forward+backward, ${model}`, `optimizer, ${model}`]),
  );
  cases.forEach(checkTimes);
  const steps = cases.filter(({ peak_rss_mb }) => peak_rss_mb !== undefined);
  expect(steps).toHaveLength(4);
  for (const { name, tokens_per_s, median_ms, gflops, peak_rss_mb, plan_mb, ratio_to_dense } of steps) {
    expect(tokens_per_s! * median_ms).toBeCloseTo(512_000, 3);
    // The router of 4 experts comes on top of what all do.
    const router = name.includes('MoE') ? 6 * 512 * tiny.n_layers * 4 * 64 : 0;
    expect(gflops! * median_ms * 1e6).toBeCloseTo(stepFlops(modelConfig(tiny, 1), makeBatch(tiny, 1)) + router, 0);
    expect(peak_rss_mb).toBeGreaterThan(plan_mb!);
    if (ratio_to_dense !== undefined) expect(ratio_to_dense).toBeCloseTo(median_ms / steps[0]!.median_ms, 10);
  }
  // Every tower costs memory; experts have only the feed-forward part several times.
  const [dense, two, three, experts] = steps.map(({ plan_mb }) => plan_mb!);
  expect([dense! < two!, two! < three!, dense! < experts!]).toEqual([true, true, true]);
});

describe('the workload', () => {
  test('counts 6 operations a weight and token, and 12 a visible pair and channel', () => {
    const weights = 4 * 64 * 64 + 3 * 64 * 128 + 64 * 50;
    const pairs = 2 * ((256 * 257) / 2);
    expect(stepFlops(modelConfig(tiny, 1), makeBatch(tiny, 1))).toBe(6 * 512 * weights + 12 * pairs * 64);
  });

  test('has spans of every modality, in uneven shares', () => {
    const { modality, targetModality } = makeBatch({ ...tiny, length: 4096 }, 3);
    const counts = [0, 1, 2].map((m) => modality.filter((other) => other === m).length / modality.length);
    expect(counts[0]).toBeGreaterThan(counts[1]! + 0.1);
    expect(counts[1]).toBeGreaterThan(counts[2]! + 0.05);
    expect(counts[2]).toBeGreaterThan(0.1);
    let spans = 1;
    for (let i = 1; i < modality.length; i++) spans += modality[i] === modality[i - 1] ? 0 : 1;
    expect(modality.length / spans).toBeGreaterThan(64);
    expect(modality.length / spans).toBeLessThan(200);
    expect(targetModality).toEqual(modality);
  });
});
