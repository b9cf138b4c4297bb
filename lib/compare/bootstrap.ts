import type { Curve } from '../report/data.js';
import { randomBits, randomKey, type RandomKey } from '../modalities/random.js';
import { matchSteps, type Matching } from './match.js';
import { geometricGrid, Smoother } from './smooth.js';

/** Points at which curves are compared: one in 1.5 % of steps. */
const GRID_POINTS = 400;
/** Pieces of a curve's noise that are drawn again. */
const BLOCKS = 50;

/** One run's loss, and what a step of it costs. */
export interface RunCurve {
  seed: number;
  curve: Curve;
  /** Cost of a step by measure, such as FLOPs and seconds. */
  cost: Record<string, number>;
}

/** A number with its interval. `high: null`: without an upper end; `value: null`: there is no pair of steps. */
export interface FractionEstimate {
  value: number | null;
  low: number | null;
  high: number | null;
}

/** Fractions of the baseline's training that another model needs. */
export interface MatchEstimate {
  /** Fitted slope and end-point ratio, by measure: `steps` and those of the runs' costs. */
  measures: Record<string, { slope: FractionEstimate; end: FractionEstimate }>;
  /** The matching of the mean curves. */
  matching: Matching;
}

/** How `estimateMatch` works. */
export interface EstimateOptions {
  /** Pairs before this step of the baseline are left out. Default 0. */
  from?: number;
  /** Draws of the bootstrap; 0: no intervals. Default 400. */
  draws?: number;
  /** Seed of the draws. Default 0. */
  seed?: number;
}

/** A run ready to be drawn again. */
interface Sampled {
  run: RunCurve;
  fit: number[];
  residuals: number[];
  onGrid: Smoother;
  smooth: number[];
}

/**
 * Matches the mean curve over the seeds of two models, with 95 % percentile intervals of a bootstrap over two things:
 * seeds are drawn with replacement, for each model, and each curve is its fit plus its own residuals in blocks (a fiftieth
 * of the run) drawn with replacement, the same blocks for both models where they share a seed, since they saw the same
 * batches. With one seed only the noise within the run remains, with two or three the interval is too narrow: say how
 * many seeds there were.
 *
 * @returns undefined when a curve has fewer than three points or the curves share no stretch of steps.
 */
export function estimateMatch(
  baseline: readonly RunCurve[],
  other: readonly RunCurve[],
  options: EstimateOptions = {},
): MatchEstimate | undefined {
  const { from = 0, draws = 400, seed = 0 } = options;
  const all = [...baseline, ...other];
  if (baseline.length === 0 || other.length === 0 || all.some(({ curve }) => curve.step.length < 3)) return undefined;
  const first = Math.max(...all.map(({ curve }) => curve.step[0]!));
  const last = Math.min(...all.map(({ curve }) => curve.step.at(-1)!));
  if (last <= first) return undefined;
  const grid = geometricGrid(first, last, GRID_POINTS);
  const [a, b] = [baseline, other].map((runs) => runs.map((run) => sampled(run, grid))) as [Sampled[], Sampled[]];
  const matching = matchSteps(grid, mean(a.map(({ smooth }) => smooth)), mean(b.map(({ smooth }) => smooth)), from);
  const measures = ['steps', ...Object.keys(baseline[0]!.cost)];
  const values = measuresOf(matching, a, b, measures);

  const drawn = measures.map(() => ({ slope: [] as (number | null)[], end: [] as (number | null)[] }));
  for (let draw = 0; draw < draws; draw++) {
    const key = randomKey(seed, `compare.bootstrap.${draw}`);
    let counter = 0;
    const pick = (runs: readonly Sampled[]): Sampled[] =>
      runs.map(() => runs[randomBits(key, counter++) % runs.length]!);
    const [seedsA, seedsB] = [pick(a), pick(b)];
    const noisy = (runs: readonly Sampled[]): number[] => mean(runs.map((run) => redrawn(run, seed, draw)));
    const again = matchSteps(grid, noisy(seedsA), noisy(seedsB), from);
    measuresOf(again, seedsA, seedsB, measures).forEach(({ slope, end }, m) => {
      drawn[m]!.slope.push(slope);
      drawn[m]!.end.push(end);
    });
  }
  return {
    matching,
    measures: Object.fromEntries(
      measures.map((measure, m) => [
        measure,
        { slope: interval(values[m]!.slope, drawn[m]!.slope), end: interval(values[m]!.end, drawn[m]!.end) },
      ]),
    ),
  };
}

function sampled(run: RunCurve, grid: readonly number[]): Sampled {
  const { step, value } = run.curve;
  const own = new Smoother(step);
  const onGrid = new Smoother(step, grid);
  const fit = own.apply(value);
  return { run, fit, residuals: own.residuals(value, fit), onGrid, smooth: onGrid.apply(value) };
}

/** A curve of the same model with other noise, smoothed. Runs of the same seed and length get the same blocks. */
function redrawn({ run, fit, residuals, onGrid }: Sampled, seed: number, draw: number): number[] {
  const key: RandomKey = randomKey(seed, `compare.blocks.${draw}.${run.seed}`);
  const count = fit.length;
  const length = Math.max(1, Math.round(count / BLOCKS));
  const value = new Float64Array(count);
  for (let begin = 0, block = 0; begin < count; begin += length, block++) {
    const source = randomBits(key, block) % (count - length + 1);
    for (let i = begin; i < Math.min(begin + length, count); i++) value[i] = fit[i]! + residuals[source + i - begin]!;
  }
  return onGrid.apply(value);
}

function mean(curves: readonly number[][]): number[] {
  return curves[0]!.map((_, i) => curves.reduce((sum, curve) => sum + curve[i]!, 0) / curves.length);
}

/** Slope and end of steps, and of every cost: a step's cost is constant, so they only differ by its ratio. */
function measuresOf(
  { slope, end }: Matching,
  baseline: readonly Sampled[],
  other: readonly Sampled[],
  measures: readonly string[],
): { slope: number | null; end: number | null }[] {
  const cost = (runs: readonly Sampled[], measure: string): number =>
    measure === 'steps' ? 1 : runs.reduce((sum, { run }) => sum + run.cost[measure]!, 0) / runs.length;
  return measures.map((measure) => {
    const ratio = cost(other, measure) / cost(baseline, measure);
    return { slope: slope === null ? null : slope * ratio, end: end === null ? null : end * ratio };
  });
}

/** 95 % of the draws; those without a value count as larger than all others. */
function interval(value: number | null, draws: readonly (number | null)[]): FractionEstimate {
  if (value === null || draws.length === 0) return { value, low: null, high: null };
  const sorted = draws.map((v) => v ?? Infinity).sort((p, q) => p - q);
  const at = (share: number): number | null => {
    const found = sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
    return Number.isFinite(found) ? found : null;
  };
  return { value, low: at(0.025), high: at(0.975) };
}
