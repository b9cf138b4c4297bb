import { describe, expect, test } from '@jest/globals';
import { medianRatio, quantile, summarize } from '../../lib/bench/statistics.js';
import { benchTable } from '../../lib/bench/table.js';
import type { BenchResult } from '../../lib/bench/types.js';

describe('statistics', () => {
  test('quantiles lie between the two nearest numbers, whatever their order', () => {
    const ms = [9, 1, 3, 7, 5, 11, 21, 19, 13, 17, 15];
    expect(summarize(ms)).toEqual({ median_ms: 11, p10_ms: 3, p90_ms: 19 });
    expect(summarize(Float64Array.of(4, 2))).toEqual({ median_ms: 3, p10_ms: 2.2, p90_ms: 3.8 });
    expect(summarize([100, 20, 3])).toEqual({ median_ms: 20, p10_ms: 6.4, p90_ms: 84 });
    expect(quantile([8], 0.9)).toBe(8);
    expect(quantile([], 0.5)).toBeNaN();
  });

  test('a ratio is the median of the rounds, so that a slow round counts in both', () => {
    expect(medianRatio([11, 110, 12], [10, 100, 10])).toBeCloseTo(1.1, 12);
  });
});

const result: BenchResult = {
  suite: 'step',
  machine: {
    cpu: 'A processor',
    instructions: 'avx2',
    threads: 8,
    memory_gb: 32,
    system: 'Linux',
    node: 'v20',
    package: '1.0.0',
    date: '2026-01-01T00:00:00.000Z',
  },
  limits: { f32_gflops: 400, bf16_gflops: 801.6, read_gbps: 50, copy_gbps: 60 },
  summary: { worst_share: 0.05, worst_case: 'slow f32', mean_share: 0.475 },
  cases: [
    {
      name: 'a name that does not fit into the column of names, and not into two of them either, so that it is wrapped',
      dtype: 'bf16',
      threads: 2,
      median_ms: 1234.5,
      p10_ms: 1200,
      p90_ms: 1300,
      gflops: 721.44,
      tokens_per_s: 3317.8,
      limit: 'bf16_gflops',
      share_of_limit: 0.9,
      ratio_to_dense: 1.0249,
      peak_rss_mb: 1500.4,
      plan_mb: 1400.6,
      peers: { torch_eager: 2469 },
    },
    {
      name: 'slow',
      dtype: 'f32',
      threads: 2,
      median_ms: 0.01234,
      p10_ms: 0.0119,
      p90_ms: 0.0131,
      gbps: 3,
      limit: 'copy_gbps',
      share_of_limit: 0.05,
    },
    {
      name: 'loading',
      dtype: 'i32',
      threads: 1,
      median_ms: 2,
      p10_ms: 1.5,
      p90_ms: 12.25,
      tokens_per_s: 2e6,
      share_of_step: 0.004,
    },
  ],
};

test('the table has limits, one line a case, notes and the worst share, within 100 columns', () => {
  const text = benchTable(result);
  expect(text.split('\n')).toEqual([
    'step on A processor, avx2, 2 threads',
    'limits: f32 400 GFLOP/s, bf16 802 GFLOP/s, read 50.0 GB/s, copy 60.0 GB/s',
    '',
    'case                                        type median ms       p10-p90         speed limit  ratio',
    'a name that does not fit into the column of bf16      1235     1200-1300   721 GFLOP/s   90%  1.025',
    '  names, and not into two of them either,',
    '  so that it is wrapped',
    '  3,318 tokens/s, peak 1500 MB, of which planned 1401 MB',
    '  torch_eager 2469 ms: 2.00 x ours',
    'slow                                        f32      0.012   0.012-0.013     3.00 GB/s    5%',
    'loading                                     i32       2.00     1.50-12.3 2.0 Mtokens/s',
    '  0.40% of a step at the peak',
    '',
    'share of the limit: worst 5% (slow f32), mean 48%',
  ]);
  for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
});
