import { MotError } from '../errors.js';
import { loadAddon } from '../native/load.js';
import type { NativeCallTiming, NativeCaseInfo } from '../native/types.js';
import { timeBesidePeers, type PeerFields } from './peer_work.js';
import { ATTENTION_CASES, GEMM_CASES, GROUPED_CASES, LOSS_CASES, OPTIMIZER_CASES, ROW_CASES } from './shapes.js';
import { medianRatio, summarize } from './statistics.js';
import type { BenchCase, BenchContext, Dtype, Limits } from './types.js';

/** Native cases that take turns: the yardstick, then what is held against it. */
type Pair = readonly [string, string];

interface TimedCase {
  info: NativeCaseInfo;
  calls: NativeCallTiming[];
  /** What a call's case says of its peers. */
  peers(call: string): PeerFields;
}

/** Times native cases in turn, in one process and on the same rounds; in turns with the peers where there are any. */
async function time(
  { threads, repeats, progress, peers }: BenchContext,
  names: readonly string[],
  dtype: Dtype,
  usual: number,
): Promise<TimedCase[]> {
  await progress(`${names.map((name) => name.replace(/^.*\/bench_/, '')).join(', ')} ${dtype}`);
  const addon = loadAddon();
  const known = new Map(addon.cases().map((info) => [info.name, info]));
  const infos = names.map((name) => {
    const info = known.get(name);
    if (!info) throw new MotError('ERR_INTERNAL', `there is no native case ${name}.`);
    return info;
  });
  const ours = (rounds: number): Promise<NativeCallTiming[][]> =>
    addon.timeCases([...names], 'cpu', dtype, threads, rounds);
  const { timings, fields } = peers
    ? await timeBesidePeers(peers, infos, dtype, repeats(usual), ours)
    : { timings: await ours(repeats(usual)), fields: () => ({}) };
  return infos.map((info, i) => ({ info, calls: timings[i]!, peers: (call) => fields(info, call) }));
}

/** The case of one call. `limit`: what bounds it. */
function toCase(
  context: BenchContext,
  name: string,
  dtype: Dtype,
  limit: keyof Limits,
  { info, peers }: TimedCase,
  { call, flops, bytes, ms }: NativeCallTiming,
): BenchCase {
  const times = summarize(ms);
  const shape = info.groups.length > 1 ? { ...info.shape, groups: info.groups } : info.shape;
  const speed = limit.endsWith('gflops')
    ? { gflops: flops / times.median_ms / 1e6 }
    : { gbps: bytes / times.median_ms / 1e6 };
  return { name, dtype, threads: context.threads, ...times, ...speed, limit, shape, op: info.op, call, ...peers(call) };
}

const peak = (dtype: Dtype): keyof Limits => `${dtype}_gflops`;

/** C[m, n] of a product with a reduction over k, by call. */
function productName(call: string, { rows = 0, in_features: input = 0, out_features: output = 0 }): string {
  const [m, n, k] =
    call === 'd_w' ? [output, input, rows] : call === 'd_x' ? [rows, input, output] : [rows, output, input];
  return `${call} ${m}x${n} k${k}`;
}

/** Suite `gemm`. */
export async function gemmSuite(context: BenchContext, names = GEMM_CASES): Promise<BenchCase[]> {
  const cases: BenchCase[] = [];
  for (const dtype of context.dtypes)
    for (const name of names)
      for (const timed of await time(context, [name], dtype, 9))
        for (const call of timed.calls)
          cases.push(toCase(context, productName(call.call, timed.info.shape), dtype, peak(dtype), timed, call));
  return cases;
}

/** Suite `grouped`. */
export async function groupedSuite(
  context: BenchContext,
  pairs: readonly Pair[] = GROUPED_CASES,
): Promise<BenchCase[]> {
  const cases: BenchCase[] = [];
  for (const dtype of context.dtypes)
    for (const names of pairs) {
      const [dense, grouped] = (await time(context, names, dtype, 15)) as [TimedCase, TimedCase];
      dense.calls.forEach((call, i) => {
        const other = grouped.calls[i]!;
        const name = productName(call.call, dense.info.shape);
        cases.push(toCase(context, `${name} dense`, dtype, peak(dtype), dense, call), {
          ...toCase(context, `${name} rows ${grouped.info.groups.join('+')}`, dtype, peak(dtype), grouped, other),
          ratio_to_dense: medianRatio(other.ms, call.ms),
        });
      });
    }
  return cases;
}

/** Suite `attention`. Useful FLOPs only: 2 products forward, 5 backward, over the pairs that are visible. */
export async function attentionSuite(context: BenchContext): Promise<BenchCase[]> {
  const cases: BenchCase[] = [];
  for (const dtype of context.dtypes)
    for (const timed of await time(context, ATTENTION_CASES, dtype, 9))
      for (const call of timed.calls) {
        const { slots: tokens = 0, documents = 1, heads, head_dim } = timed.info.shape;
        const name = `${call.call} ${documents} x ${tokens / documents}, ${heads} heads of ${head_dim}`;
        cases.push(toCase(context, name, dtype, peak(dtype), timed, call));
      }
  return cases;
}

/** Suite `loss`. */
export async function lossSuite(context: BenchContext, pairs: readonly Pair[] = LOSS_CASES): Promise<BenchCase[]> {
  const cases: BenchCase[] = [];
  for (const dtype of context.dtypes)
    for (const names of pairs) {
      const [gemm, loss] = (await time(context, names, dtype, 9)) as [TimedCase, TimedCase];
      const { rows, d_model, vocab } = loss.info.shape;
      // With gradients: the product of the logits, that of d_x and that of d_w.
      const products = gemm.calls[0]!.ms.map((_, round) => gemm.calls.reduce((sum, { ms }) => sum + ms[round]!, 0));
      for (const call of loss.calls) {
        const gradients = call.call === 'backward';
        const name = `${gradients ? 'loss and gradients' : 'loss only'} ${rows}x${d_model} vocab ${vocab}`;
        cases.push({
          ...toCase(context, name, dtype, peak(dtype), loss, call),
          ratio_to_gemm: medianRatio(call.ms, gradients ? products : gemm.calls[0]!.ms),
        });
      }
    }
  return cases;
}

/** Suite `rows`. */
export async function rowsSuite(context: BenchContext): Promise<BenchCase[]> {
  const cases: BenchCase[] = [];
  for (const dtype of context.dtypes)
    for (const name of ROW_CASES)
      for (const timed of await time(context, [name], dtype, 15))
        for (const call of timed.calls)
          cases.push(toCase(context, `${timed.info.op} ${call.call}`, dtype, 'copy_gbps', timed, call));
  return cases;
}

/** Suite `optimizer`. */
export async function optimizerSuite(context: BenchContext): Promise<BenchCase[]> {
  const cases: BenchCase[] = [];
  for (const name of OPTIMIZER_CASES)
    for (const timed of await time(context, [name], 'f32', 15))
      for (const call of timed.calls) {
        const limit = timed.info.op === 'grad_norm' ? 'read_gbps' : 'copy_gbps';
        const millions = (timed.info.shape['elements'] ?? 0) / 1e6;
        cases.push(toCase(context, `${timed.info.op} of ${millions} M weights`, 'f32', limit, timed, call));
      }
  return cases;
}
