import { randomKey, randomUniform } from '../modalities/random.js';

/** A figure with its interval of 95 % confidence; `count`: cases it is of. All are 0 without cases. */
export interface Estimate {
  value: number;
  low: number;
  high: number;
  count: number;
}

/** The normal deviate of a two-sided 95 % interval. */
const Z = 1.959964;
/** Resamples of a bootstrap interval. */
const RESAMPLES = 1000;

/** Share of successes, with Wilson's score interval: right for few cases and for shares near 0 and 1 too. */
export function wilson(successes: number, count: number): Estimate {
  if (count === 0) return { value: 0, low: 0, high: 0, count };
  const share = successes / count;
  const z2 = (Z * Z) / count;
  const centre = (share + z2 / 2) / (1 + z2);
  const half = (Z * Math.sqrt((share * (1 - share)) / count + z2 / (4 * count))) / (1 + z2);
  // At 0 and 1 the interval ends there exactly; rounding may say otherwise.
  const low = successes === 0 ? 0 : centre - half;
  const high = successes === count ? 1 : centre + half;
  return { value: share, low, high, count };
}

/**
 * Sum of `parts` over sum of `wholes`, case by case, with a percentile bootstrap interval over the cases. Deterministic.
 * With `wholes` of 1 it is a mean.
 */
export function bootstrapRatio(parts: readonly number[], wholes: readonly number[], seed = 0): Estimate {
  const count = parts.length;
  if (count === 0) return { value: 0, low: 0, high: 0, count };
  const ratioOf = (pick: (i: number) => number): number => {
    let part = 0;
    let whole = 0;
    for (let i = 0; i < count; i++) {
      const chosen = pick(i);
      part += parts[chosen]!;
      whole += wholes[chosen]!;
    }
    return whole === 0 ? 0 : part / whole;
  };
  const ratios = new Float64Array(RESAMPLES);
  for (let r = 0; r < RESAMPLES; r++) {
    const key = randomKey(seed, `bootstrap/${r}`);
    ratios[r] = ratioOf((i) => Math.floor(randomUniform(key, i) * count));
  }
  ratios.sort();
  const at = (quantile: number): number => ratios[Math.round(quantile * (RESAMPLES - 1))]!;
  return { value: ratioOf((i) => i), low: at(0.025), high: at(0.975), count };
}

/** Fewest insertions, deletions and substitutions that turn one sequence into the other (Levenshtein). */
export function editDistance(a: ArrayLike<unknown>, b: ArrayLike<unknown>): number {
  // row[j]: distance of the first i elements of a and the first j of b.
  const row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    let diagonal = row[0]!;
    row[0] = i;
    for (let j = 1; j <= b.length; j++) {
      const above = row[j]!;
      const substituted = diagonal + (a[i - 1] === b[j - 1] ? 0 : 1);
      row[j] = Math.min(substituted, above + 1, row[j - 1]! + 1);
      diagonal = above;
    }
  }
  return row[b.length]!;
}

/** Edit distance over the length of the longer one: 0 for equal sequences, 1 for those that share nothing. */
export function normalisedEditDistance(a: ArrayLike<unknown>, b: ArrayLike<unknown>): number {
  const longer = Math.max(a.length, b.length);
  return longer === 0 ? 0 : editDistance(a, b) / longer;
}

/** The reference nearest to a sequence: its edit distance and its length. `references`: at least one. */
export function nearestReference(
  sequence: ArrayLike<unknown>,
  references: readonly ArrayLike<unknown>[],
): { distance: number; length: number } {
  let best = { distance: Infinity, length: 1 };
  for (const reference of references) {
    const candidate = { distance: editDistance(sequence, reference), length: reference.length };
    // By rate, not by distance: a short reference is no excuse.
    if (candidate.distance / candidate.length < best.distance / best.length) best = candidate;
  }
  return best;
}
