/** Quantile q of numbers, linear between the two nearest; NaN of none. */
export function quantile(values: Iterable<number>, q: number): number {
  const sorted = Float64Array.from(values).sort();
  if (sorted.length === 0) return NaN;
  const place = q * (sorted.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low]! + (place - low) * (sorted[high]! - sorted[low]!);
}

/** Quantile 0.5. */
export function median(values: Iterable<number>): number {
  return quantile(values, 0.5);
}

/** The times of a case, from one measurement a round in milliseconds. */
export function summarize(ms: ArrayLike<number>): { median_ms: number; p10_ms: number; p90_ms: number } {
  const values = Array.from(ms);
  return { median_ms: median(values), p10_ms: quantile(values, 0.1), p90_ms: quantile(values, 0.9) };
}

/** Median over the rounds of a / b: what slows both in one round cancels. */
export function medianRatio(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return median(Array.from(a, (value, i) => value / b[i]!));
}
