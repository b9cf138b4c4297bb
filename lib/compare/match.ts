/** The lowest value so far, at every point. */
export function envelope(value: readonly number[]): number[] {
  let lowest = Infinity;
  return value.map((v) => (lowest = Math.min(lowest, v)));
}

/** How far another model needs to train to where the baseline is. */
export interface Matching {
  /** Steps of the baseline, each the first at which it reached its loss, ascending. */
  baseline: number[];
  /** For each, the first step at which the other model reached the same loss, interpolated. */
  other: number[];
  /** Slope through the origin of `other` over `baseline`: the fraction of the baseline's steps. null: no pair. */
  slope: number | null;
  /** other / baseline of the last pair. null: no pair. */
  end: number | null;
  /** Whether the other model reached the baseline's lowest loss; if not, the last pair is at its own lowest. */
  reached: boolean;
  /** Not reached: the fraction at the baseline's lowest loss is more than this. */
  atLeast: number | null;
  /** The other model was below the baseline's lowest loss at its first point: the fraction is at most this. */
  atMost: number | null;
  /** The last pair's step of the baseline, over the baseline's last step. */
  covered: number;
}

/** First step at which an envelope is at `loss` or below, between two points by a line; undefined: never. */
function firstAt(grid: readonly number[], lowest: readonly number[], loss: number): number | undefined {
  if (!(lowest[lowest.length - 1]! <= loss)) return undefined;
  let [low, high] = [0, lowest.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lowest[middle]! <= loss) high = middle;
    else low = middle + 1;
  }
  if (high === 0) return grid[0]!;
  const [above, below] = [lowest[high - 1]!, lowest[high]!];
  return grid[high - 1]! + ((above - loss) / (above - below)) * (grid[high]! - grid[high - 1]!);
}

/**
 * Step matching: for the steps of the baseline, the step at which the other model reaches the same loss. Both losses are
 * taken as their monotone envelope. A stretch in which the baseline makes no progress counts once, at its beginning; losses
 * under which the other model was at its first point already give no pair.
 *
 * @param grid Steps of both curves, ascending.
 * @param from Pairs before this step of the baseline are left out (warm-up).
 */
export function matchSteps(
  grid: readonly number[],
  baselineLoss: readonly number[],
  otherLoss: readonly number[],
  from = 0,
): Matching {
  const [a, b] = [envelope(baselineLoss), envelope(otherLoss)];
  const last = grid.length - 1;
  const baseline: number[] = [];
  const other: number[] = [];
  let lowestAt = grid[0]!;
  let firstUnreached: number | undefined;
  for (let i = 0; i <= last; i++) {
    if (i > 0 && a[i]! === a[i - 1]!) continue;
    lowestAt = grid[i]!;
    if (grid[i]! < from || a[i]! > b[0]!) continue;
    const step = firstAt(grid, b, a[i]!);
    if (step === undefined) {
      firstUnreached ??= grid[i]!;
      continue;
    }
    baseline.push(grid[i]!);
    other.push(step);
  }
  const reached = b[last]! <= a[last]!;
  if (!reached) {
    // The pair at which the other model's curve ends.
    const step = firstAt(grid, a, b[last]!);
    const end = firstAt(grid, b, b[last]!)!;
    if (step !== undefined && step >= from && step > (baseline.at(-1) ?? 0) && b[last]! <= a[0]!) {
      baseline.push(step);
      other.push(end);
    }
  }
  const pairs = baseline.length;
  const atMost = pairs === 0 && b[0]! < a[last]! ? grid[0]! / lowestAt : null;
  return {
    baseline,
    other,
    slope: slopeThroughOrigin(baseline, other),
    end: pairs > 0 ? other[pairs - 1]! / baseline[pairs - 1]! : null,
    reached,
    atLeast: reached ? null : grid[last]! / (pairs > 0 ? lowestAt : (firstUnreached ?? lowestAt)),
    atMost,
    covered: pairs > 0 ? baseline[pairs - 1]! / grid[last]! : 0,
  };
}

/** Least squares of y = s x, every x weighing as much as the stretch of x that it stands for. null without points. */
export function slopeThroughOrigin(x: readonly number[], y: readonly number[]): number | null {
  if (x.length === 0) return null;
  let [xy, xx] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    const weight = x.length === 1 ? 1 : (x[Math.min(i + 1, x.length - 1)]! - x[Math.max(i - 1, 0)]!) / 2;
    xy += weight * x[i]! * y[i]!;
    xx += weight * x[i]! ** 2;
  }
  return xy / xx;
}
