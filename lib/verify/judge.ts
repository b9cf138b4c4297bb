/**
 * How far computed values may lie from a golden file's. The bounds on ||x - y||2 / ||y||2 are twice to ten times what
 * PyTorch reaches on the same files in the same number format.
 */
export type ValueKind = 'hidden' | 'loss' | 'part of the loss' | 'gradient' | 'ten losses' | 'ten norms' | 'weights';

/** Bounds of one kind of values. */
export interface Bound {
  /** On ||x - y||2 / ||y||2 of the whole tensor. */
  relative: number;
  /**
   * On |x - y| / max(|y|, rms(y)) of every element. One wrong number drowns in the norm of a large tensor; this finds
   * it. Ten to forty times what rounding gives.
   */
  element: number;
  /**
   * Added to `element`: so many times the root mean square of the other elements' errors. After steps of training
   * rounding has grown by a factor that depends on the model, but it has grown everywhere.
   */
  spread?: number;
}

const EXPERTS_BF16: Bound = { relative: 0.1, element: 0.1 };

/**
 * null: printed, not judged. `experts_bf16`: in bf16 a rounding may hand a token to another expert, which changes hidden
 * states and gradients by more than rounding does, so that only losses tell.
 */
export const BOUNDS: Record<'f32' | 'bf16' | 'experts_bf16', Record<ValueKind, Bound | null>> = {
  f32: {
    hidden: { relative: 3e-6, element: 1e-4 },
    loss: { relative: 3e-6, element: 3e-6 },
    'part of the loss': { relative: 3e-6, element: 3e-6 },
    gradient: { relative: 1e-5, element: 2e-4 },
    'ten losses': { relative: 5e-4, element: 2e-5, spread: 100 },
    'ten norms': { relative: 2e-2, element: 1e-4, spread: 100 },
    weights: { relative: 3e-4, element: 3e-4, spread: 400 },
  },
  bf16: {
    hidden: { relative: 3e-2, element: 1 },
    loss: { relative: 5e-3, element: 5e-3 },
    'part of the loss': { relative: 2e-2, element: 2e-2 },
    gradient: { relative: 0.1, element: 10 },
    'ten losses': { relative: 6e-2, element: 0.2 },
    'ten norms': null,
    weights: null,
  },
  experts_bf16: {
    hidden: null,
    loss: EXPERTS_BF16,
    'part of the loss': EXPERTS_BF16,
    gradient: null,
    'ten losses': EXPERTS_BF16,
    'ten norms': null,
    weights: null,
  },
};

/** One tensor beside the file's. */
export interface Comparison {
  name: string;
  kind: ValueKind | 'consistency';
  /** ||x - y||2 / ||y||2; where y is zero: 0 if x is exactly zero too, else Infinity. NaN if either has a NaN. */
  error: number;
  /** Bound on it; null: not judged. */
  bound: number | null;
  /** max |x - y| / max(|y|, rms(y)). */
  elementError: number;
  elementBound: number | null;
  passed: boolean;
  /** The worst element of one that failed. */
  worst?: { index: number; got: number; expected: number };
}

/**
 * Compares x, as computed, with y, as it should be. Both of one length.
 *
 * @param judged Elements that the bound on single elements is for; default all.
 */
export function compare(
  name: string,
  kind: Comparison['kind'],
  x: ArrayLike<number>,
  y: ArrayLike<number>,
  bound: Bound | null,
  judged: (index: number) => boolean = () => true,
): Comparison {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < y.length; i++) {
    difference += (x[i]! - y[i]!) ** 2;
    size += y[i]! ** 2;
  }
  const rms = Math.sqrt(size / Math.max(1, y.length));
  let elementError = 0;
  let index = 0;
  let others = 0;
  for (let i = 0; i < y.length; i++) {
    const off = Math.abs(x[i]! - y[i]!);
    // 0 / 0 is no error; anything / 0 is Infinity; NaN stays the worst.
    const scaled = off === 0 ? 0 : off / Math.max(Math.abs(y[i]!), rms);
    if (!judged(i) || scaled <= elementError) {
      others += scaled ** 2;
      continue;
    }
    others += elementError ** 2;
    elementError = scaled;
    index = i;
    if (Number.isNaN(scaled)) break;
  }
  const error = difference === 0 ? 0 : Math.sqrt(difference) / Math.sqrt(size);
  const spread = Math.sqrt(others / Math.max(1, y.length - 1));
  const elementBound = bound === null ? null : bound.element + (bound.spread ? bound.spread * spread : 0);
  // Never `error > bound`: NaN has to fail.
  const passed = bound === null ? !Number.isNaN(error) : error <= bound.relative && elementError <= elementBound!;
  return {
    name,
    kind,
    error,
    bound: bound?.relative ?? null,
    elementError,
    elementBound,
    passed,
    ...(passed ? {} : { worst: { index, got: x[index] ?? NaN, expected: y[index] ?? NaN } }),
  };
}
