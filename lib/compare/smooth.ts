import type { Curve } from '../report/data.js';

/** Fewest points in a window: with two, a line goes through both and smooths nothing. */
const LEAST = 3;

/** Half-width of the window in log(step): from t / 1.1 to 1.1 t. */
export const WINDOW = Math.log(1.1);

/**
 * Local linear regression over log(step), every point of the window `|log(step / t)| <= WINDOW` weighing the same. A
 * window that grows with t smooths a curve and the same curve stretched in the same way, so it does not bias the ratio
 * of steps; a fitted line, unlike a mean, does not lag where the window is cut off at the end of the run.
 */
export class Smoother {
  readonly #log: number[];
  readonly #begin: Int32Array;
  readonly #end: Int32Array;
  /** Place, relative to the window's mean, divided by the window's sum of squares. */
  readonly #slope: Float64Array;
  readonly #mean: Float64Array;
  /** Share of an observation in the fit at its own place; what is missing to 1 is the variance left in the residual. */
  readonly #leverage: Float64Array;

  /**
   * @param step Steps of the observations, ascending, from 1.
   * @param at Steps at which to fit, ascending, within the observations. Default: at every observation.
   */
  constructor(step: readonly number[], at: readonly number[] = step) {
    this.#log = step.map(Math.log);
    const log = this.#log;
    this.#begin = new Int32Array(at.length);
    this.#end = new Int32Array(at.length);
    this.#slope = new Float64Array(at.length);
    this.#mean = new Float64Array(at.length);
    this.#leverage = new Float64Array(at.length);
    const least = Math.min(LEAST, log.length);
    let begin = 0;
    let end = 0;
    at.forEach((t, i) => {
      const u = Math.log(t);
      // Rounding must not decide whether a point on the edge belongs to the window.
      while (begin < log.length - 1 && log[begin]! < u - WINDOW - 1e-12) begin++;
      while (end < log.length && log[end]! <= u + WINDOW + 1e-12) end++;
      let [from, to] = [begin, Math.max(end, begin)];
      while (to - from < least)
        if (to === log.length || (from > 0 && u - log[from - 1]! <= log[to]! - u)) from--;
        else to++;
      let mean = 0;
      for (let j = from; j < to; j++) mean += log[j]!;
      mean /= to - from;
      let squares = 0;
      for (let j = from; j < to; j++) squares += (log[j]! - mean) ** 2;
      this.#begin[i] = from;
      this.#end[i] = to;
      this.#mean[i] = mean;
      this.#slope[i] = squares > 0 ? (u - mean) / squares : 0;
      this.#leverage[i] = 1 / (to - from) + (squares > 0 ? (u - mean) ** 2 / squares : 0);
    });
  }

  /** The fit at every place. */
  apply(value: ArrayLike<number>): number[] {
    const log = this.#log;
    const sum = new Float64Array(log.length + 1);
    const moment = new Float64Array(log.length + 1);
    for (let j = 0; j < log.length; j++) {
      sum[j + 1] = sum[j]! + value[j]!;
      moment[j + 1] = moment[j]! + value[j]! * log[j]!;
    }
    return Array.from(this.#begin, (from, i) => {
      const to = this.#end[i]!;
      const total = sum[to]! - sum[from]!;
      return total / (to - from) + this.#slope[i]! * (moment[to]! - moment[from]! - this.#mean[i]! * total);
    });
  }

  /** Observations minus their fit, scaled to the variance of the noise; only of a smoother at its observations. */
  residuals(value: ArrayLike<number>, fit: readonly number[]): number[] {
    return fit.map((fitted, i) => {
      const left = 1 - this.#leverage[i]!;
      return left > 1e-6 ? (value[i]! - fitted) / Math.sqrt(left) : 0;
    });
  }
}

/** A curve smoothed at its own steps. */
export function smoothCurve({ step, value }: Curve): Curve {
  return { step, value: new Smoother(step).apply(value) };
}

/** `count` steps from `first` to `last`, each the same factor after the one before. */
export function geometricGrid(first: number, last: number, count: number): number[] {
  const ratio = Math.log(last / first) / (count - 1);
  return Array.from({ length: count }, (_, i) =>
    i === 0 ? first : i === count - 1 ? last : first * Math.exp(i * ratio),
  );
}
