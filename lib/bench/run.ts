import { MotError } from '../errors.js';
import { machine } from '../machine.js';
import { loadAddon } from '../native/load.js';
import { largerLimits, measureLimits } from './limits.js';
import { startPeers } from './peers.js';
import { presetModelConfig, type PresetStep } from './preset.js';
import { SUITES, type SuiteName } from './suites.js';
import type { BenchCase, BenchResult, Dtype, Limits } from './types.js';

/** A suite goes on for this long before the limits are measured anew. */
const LIMITS_EVERY_MS = 4000;

/** Options of `runSuites`. */
export interface BenchOptions {
  /** 0: as many as this process may use. Default 0. */
  threads?: number;
  /** Default: both. */
  dtype?: Dtype;
  /** Rounds of every case. Default: the suite's own number. */
  repeats?: number;
  /** Time the same work in other libraries; needs Python and PyTorch. Default false. */
  peers?: boolean;
  /** Suite `step` on a preset, rather than on its own models. */
  preset?: PresetStep;
  /** Called with what is being timed. */
  progress?: (what: string) => void;
  /** Called with the result of each suite as soon as there is one. */
  onResult?: (result: BenchResult) => void;
}

/**
 * Runs suites one after the other. The limits are measured before each, between its parts and after it, and the largest
 * count, since the clock of a shared machine wanders.
 *
 * @throws MotError ERR_USAGE for a suite or preset that is not there; ERR_UNSUPPORTED for peers without Python or
 *   PyTorch; ERR_MEMORY for a preset that does not fit.
 */
export async function runSuites(names: readonly string[], options: BenchOptions = {}): Promise<BenchResult[]> {
  for (const name of names)
    if (!Object.hasOwn(SUITES, name))
      throw new MotError('ERR_USAGE', `there is no suite ${name}; choose of ${Object.keys(SUITES).join(' ')}.`);
  if (options.preset) {
    presetModelConfig(options.preset.name);
    if (names.join() !== 'step' || options.peers)
      throw new MotError(
        'ERR_USAGE',
        'a preset is timed by the suite step, without peers: mot bench step --preset NAME.',
      );
  }
  const { dtype, repeats, progress: tell = () => {}, onResult = () => {} } = options;
  const threads = options.threads || loadAddon().cpu().threads;
  await using peers = options.peers ? await startPeers({ threads, progress: tell }) : undefined;
  const results: BenchResult[] = [];
  for (const name of names as SuiteName[]) {
    let limits = await measureLimits(threads);
    let measuredAt = performance.now();
    const measureAgain = async (): Promise<void> => {
      limits = largerLimits(limits, await measureLimits(threads));
      measuredAt = performance.now();
    };
    const measured = await SUITES[name].run({
      threads,
      dtypes: dtype ? [dtype] : ['f32', 'bf16'],
      repeats: (usual) => repeats ?? usual,
      limits,
      peers,
      preset: options.preset,
      async progress(what) {
        tell(what);
        if (performance.now() - measuredAt > LIMITS_EVERY_MS) await measureAgain();
      },
    });
    await measureAgain();
    const cases = measured.map((one) => withShare(one, limits));
    const result: BenchResult = { suite: name, machine: machine(), limits, summary: summary(cases), cases };
    if (peers) result.peers = { ...peers.versions };
    results.push(result);
    onResult(result);
  }
  return results;
}

function withShare(one: BenchCase, limits: Limits): BenchCase {
  if (one.limit === undefined) return one;
  const speed = one.limit.endsWith('gflops') ? one.gflops : one.gbps;
  return speed === undefined ? one : { ...one, share_of_limit: speed / limits[one.limit] };
}

function summary(cases: readonly BenchCase[]): BenchResult['summary'] {
  const judged = cases.filter(({ share_of_limit }) => share_of_limit !== undefined);
  if (judged.length === 0) return null;
  const worst = judged.reduce((a, b) => (b.share_of_limit! < a.share_of_limit! ? b : a));
  return {
    worst_share: worst.share_of_limit!,
    worst_case: `${worst.name} ${worst.dtype}`,
    mean_share: judged.reduce((sum, { share_of_limit }) => sum + share_of_limit!, 0) / judged.length,
  };
}
