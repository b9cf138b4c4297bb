import { loadAddon } from '../native/load.js';
import { summarize } from './statistics.js';
import type { BenchCase, BenchContext, Limits } from './types.js';

/** Measures the limits once: some tenths of a second. */
export async function measureLimits(threads: number): Promise<Limits> {
  const { f32Gflops, bf16Gflops, readGbps, copyGbps } = await loadAddon().measureLimits(threads);
  return { f32_gflops: f32Gflops, bf16_gflops: bf16Gflops, read_gbps: readGbps, copy_gbps: copyGbps };
}

/** The larger of each. */
export function largerLimits(a: Limits, b: Limits): Limits {
  return {
    f32_gflops: Math.max(a.f32_gflops, b.f32_gflops),
    bf16_gflops: Math.max(a.bf16_gflops, b.bf16_gflops),
    read_gbps: Math.max(a.read_gbps, b.read_gbps),
    copy_gbps: Math.max(a.copy_gbps, b.copy_gbps),
  };
}

/** How much the limits themselves wander: each of several measurements, as the time of 1 GFLOP or 1 GB. */
export async function limitsSuite({ threads, repeats, progress }: BenchContext): Promise<BenchCase[]> {
  const rounds: Limits[] = [];
  await progress('limits');
  for (let i = 0; i < repeats(7); i++) rounds.push(await measureLimits(threads));
  const of = (name: string, dtype: 'f32' | 'bf16', limit: keyof Limits): BenchCase => {
    const times = summarize(rounds.map((limits) => 1000 / limits[limit]));
    const speed = 1000 / times.median_ms;
    return { name, dtype, threads, ...times, [limit.endsWith('gflops') ? 'gflops' : 'gbps']: speed, limit };
  };
  return [
    of('1 GFLOP of multiply-adds', 'f32', 'f32_gflops'),
    of('1 GFLOP of multiply-adds', 'bf16', 'bf16_gflops'),
    of('1 GB read from DRAM', 'f32', 'read_gbps'),
    of('1 GB copied in DRAM', 'f32', 'copy_gbps'),
  ];
}
