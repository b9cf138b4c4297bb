import type { Machine } from '../machine.js';
import type { Peers } from './peers.js';
import type { PresetStep } from './preset.js';

/** What the processor can do at most, measured in the same run as the cases. */
export interface Limits {
  /** Multiply-adds in registers. */
  f32_gflops: number;
  /** The same on bf16 operands; the f32 peak where the processor has no instruction for them. */
  bf16_gflops: number;
  /** Stream from DRAM. */
  read_gbps: number;
  /** Copy of a stream: bytes read and bytes written. */
  copy_gbps: number;
}

/** Number format of the matrix products. */
export type Dtype = 'f32' | 'bf16';

/** One figure of a suite. Speeds follow from the median. */
export interface BenchCase {
  name: string;
  /** Number format of the work; `i32` where it is tokens. */
  dtype: Dtype | 'i32';
  threads: number;
  median_ms: number;
  p10_ms: number;
  p90_ms: number;
  /** Useful floating-point operations, 10^9 a second; a multiply-add is 2. */
  gflops?: number;
  /** Bytes of the arguments, each read or written once, 10^9 a second. */
  gbps?: number;
  tokens_per_s?: number;
  /** Which limit bounds the work. */
  limit?: keyof Limits;
  /** Speed / that limit; of the checkpoint suite: speed / the disk's. */
  share_of_limit?: number;
  /** Time / that of the dense contender on as many rows or tokens: median of the rounds. */
  ratio_to_dense?: number;
  /** Time / that of the same step when all activations are kept: median of the rounds. */
  ratio_to_keeping?: number;
  /** Time for one FLOP / that of a matrix product of the same shape: median of the rounds. */
  ratio_to_gemm?: number;
  /** Time of one call, of a suite that times calls. */
  ns_per_call?: number;
  /** Time / that of the same call through V8's own interface: median of the rounds. */
  ratio_to_nan?: number;
  /** Loading a batch / a step on it at the processor's peak, so the largest share that it can have. */
  share_of_step?: number;
  /** Peak memory of a process that does nothing else. */
  peak_rss_mb?: number;
  /** The memory plan of `mot describe`. */
  plan_mb?: number;
  /** Sizes by name: enough to do the same work elsewhere. */
  shape?: Shape;
  /** Op of native/ops and its call, where the case is one. */
  op?: string;
  call?: string;
  /** The same work by others, milliseconds (median), by name; see peers.ts. */
  peers?: Record<string, number>;
  /** Why another could not do it. It counts as missing, not as beaten. */
  peers_missing?: Record<string, string>;
  /** Peak memory of the others' processes. */
  peers_peak_rss_mb?: Record<string, number>;
}

/** Sizes of a case by name; `groups` lists the rows of every group. */
export type Shape = Record<string, number | number[]>;

/** What `mot bench SUITE --json` prints. */
export interface BenchResult {
  suite: string;
  machine: Machine;
  limits: Limits;
  /** Of the cases that have a share of a limit. A suite is judged by its worst. */
  summary: { worst_share: number; worst_case: string; mean_share: number } | null;
  /** Name and version of the libraries that were asked. */
  peers?: Record<string, string>;
  cases: BenchCase[];
}

/** What a suite is given. */
export interface BenchContext {
  threads: number;
  dtypes: readonly Dtype[];
  /** Rounds to time: what was asked for, or the suite's own number. */
  repeats(usual: number): number;
  /** Limits as measured before the suite. */
  limits: Limits;
  /** Others to compete with; undefined where nobody asked for them. */
  peers?: Peers | undefined;
  /** Of the step suite: the preset to time rather than the suite's own models. */
  preset?: PresetStep | undefined;
  /** To be called before each part: says what is timed next, and measures the limits anew when that was seconds ago. */
  progress(what: string): Promise<void>;
}

/** A suite: one subject, timed. The runner adds limits, machine and shares. */
export interface Suite {
  /** One line for the help. */
  about: string;
  run(context: BenchContext): Promise<BenchCase[]>;
}
