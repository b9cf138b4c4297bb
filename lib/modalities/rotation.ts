import { BLOCK, pass, runHere, sharedFloat64, type Loop, type Steps } from './training_steps.js';

/*
 * Principal axes. Distances do not change under a rotation, but after it the first coordinates hold most of the
 * variance, so that a search can drop most candidates by a few of them.
 */

/** An orthonormal change of basis: y = basis (x - mean). */
export interface Rotation {
  /** [d]. */
  mean: Float32Array;
  /** [d, d], rows are the axes, largest variance first. */
  basis: Float32Array;
}

/** Principal axes of `vectors` [n, d]. */
export function principalAxes(vectors: Float64Array, dim: number): Rotation {
  return runHere(principalAxesSteps(vectors, dim));
}

/** principalAxes() as steps; `vectors` in shared memory where other threads take part. */
export function* principalAxesSteps(vectors: Float64Array, dim: number): Steps<Rotation> {
  const n = vectors.length / dim;
  const mean = sharedFloat64(dim);
  for (let i = 0; i < n; i++) for (let a = 0; a < dim; a++) mean[a]! += vectors[i * dim + a]! / n;
  const covariance = sharedFloat64(dim * dim);
  yield* pass('covarianceRows', covarianceRows, { vectors, dim, mean, covariance }, dim, n > BLOCK ? 16 : dim);
  for (let a = 0; a < dim; a++) for (let b = 0; b < a; b++) covariance[b * dim + a] = covariance[a * dim + b]!;
  const { values, rows } = symmetricEigen(covariance, dim);
  const order = Array.from({ length: dim }, (_, i) => i).sort((a, b) => values[b]! - values[a]! || a - b);
  const basis = new Float32Array(dim * dim);
  order.forEach((from, to) => basis.set(rows.subarray(from * dim, (from + 1) * dim), to * dim));
  return { mean: Float32Array.from(mean), basis };
}

/** A loop over rows of the lower triangle of n times the covariance [d, d]. */
export function covarianceRows(task: {
  vectors: Float64Array;
  dim: number;
  mean: Float64Array;
  covariance: Float64Array;
}): Loop {
  const { vectors, dim, mean, covariance } = task;
  const centred = new Float64Array(dim);
  return (begin, end) => {
    for (let at = 0; at < vectors.length; at += dim) {
      for (let a = 0; a < end; a++) centred[a] = vectors[at + a]! - mean[a]!;
      for (let a = begin; a < end; a++) {
        const value = centred[a]!;
        for (let b = 0; b <= a; b++) covariance[a * dim + b]! += value * centred[b]!;
      }
    }
    return 0;
  };
}

/** All of `vectors` [n, d] rotated, in shared memory; those as well where other threads take part. */
export function* rotateSteps(rotation: Rotation, vectors: Float64Array): Steps<Float64Array> {
  const dim = rotation.mean.length;
  const rotated = sharedFloat64(vectors.length);
  yield* pass('rotateVectors', rotateVectors, { rotation, vectors, rotated }, vectors.length / dim);
  return rotated;
}

/** A loop over vectors. */
export function rotateVectors(task: { rotation: Rotation; vectors: Float64Array; rotated: Float64Array }): Loop {
  const { rotation, vectors, rotated } = task;
  const dim = rotation.mean.length;
  return (begin, end) => {
    for (let at = begin * dim; at < end * dim; at += dim) rotate(rotation, vectors, at, rotated, at);
    return 0;
  };
}

/** y = basis (x - mean) for `x[xOffset ... + d)` into `y[yOffset ... + d)`. */
export function rotate(rotation: Rotation, x: Float64Array, xOffset: number, y: Float64Array, yOffset: number): void {
  const { mean, basis } = rotation;
  const dim = mean.length;
  for (let a = 0; a < dim; a++) {
    let sum = 0;
    for (let b = 0, row = a * dim; b < dim; b++) sum += basis[row + b]! * (x[xOffset + b]! - mean[b]!);
    y[yOffset + a] = sum;
  }
}

/** x = basis^T y (+ mean, when `addMean`). */
export function rotateBack(rotation: Rotation, y: Float32Array, yOffset: number, addMean: boolean): Float32Array {
  const { mean, basis } = rotation;
  const dim = mean.length;
  const x = addMean ? Float64Array.from(mean) : new Float64Array(dim);
  for (let a = 0; a < dim; a++) {
    const value = y[yOffset + a]!;
    for (let b = 0; b < dim; b++) x[b]! += value * basis[a * dim + b]!;
  }
  return Float32Array.from(x);
}

/** Eigenvalues and eigenvectors (as rows) of a symmetric matrix [d, d], by cyclic Jacobi rotations. */
function symmetricEigen(matrix: Float64Array, dim: number): { values: Float64Array; rows: Float64Array } {
  const a = Float64Array.from(matrix);
  const rows = new Float64Array(dim * dim);
  for (let i = 0; i < dim; i++) rows[i * dim + i] = 1;
  let norm = 0;
  for (const value of a) norm += value * value;
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0;
    for (let p = 0; p < dim; p++) for (let q = 0; q < p; q++) off += a[p * dim + q]! ** 2;
    if (off <= 1e-20 * norm) break;
    for (let p = 0; p < dim - 1; p++) {
      for (let q = p + 1; q < dim; q++) {
        const apq = a[p * dim + q]!;
        if (apq === 0) continue;
        const theta = (a[q * dim + q]! - a[p * dim + p]!) / (2 * apq);
        const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        rotateColumns(a, dim, p, q, c, s);
        rotateRows(a, dim, p, q, c, s);
        rotateRows(rows, dim, p, q, c, s);
      }
    }
  }
  return { values: Float64Array.from({ length: dim }, (_, i) => a[i * dim + i]!), rows };
}

function rotateRows(m: Float64Array, dim: number, p: number, q: number, c: number, s: number): void {
  for (let i = 0, ip = p * dim, iq = q * dim; i < dim; i++, ip++, iq++) {
    const x = m[ip]!;
    const y = m[iq]!;
    m[ip] = c * x - s * y;
    m[iq] = s * x + c * y;
  }
}

function rotateColumns(m: Float64Array, dim: number, p: number, q: number, c: number, s: number): void {
  for (let i = 0, ip = p, iq = q; i < dim; i++, ip += dim, iq += dim) {
    const x = m[ip]!;
    const y = m[iq]!;
    m[ip] = c * x - s * y;
    m[iq] = s * x + c * y;
  }
}
