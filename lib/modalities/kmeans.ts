import { randomKey, randomUniform } from './random.js';
import { MotError } from '../errors.js';
import { pass, runHere, shared, sharedFloat64, type Loop, type Steps } from './training_steps.js';

/*
 * k-means and nearest-code search for vectors whose first coordinates carry most of the variance (see rotation.ts).
 * Both are exact: candidates are dropped only by lower bounds of their distance.
 *
 * n vectors, k codes, d coordinates; all arrays are row-major.
 */

/** Finds the code nearest to a vector: codes sorted by their first coordinate, scanned outwards from the vector's. */
export class CodeSearch {
  /** Squared distance of the last code found. */
  distance = Infinity;
  readonly #dim: number;
  readonly #count: number;
  /** Codes in the order of the first coordinate [k, d], their ids and places. */
  readonly #sorted: Float32Array;
  readonly #id: Int32Array;
  readonly #place: Int32Array;
  readonly #first: Float64Array;

  constructor(codes: Float32Array, dim: number) {
    this.#dim = dim;
    this.#count = codes.length / dim;
    this.#id = Int32Array.from({ length: this.#count }, (_, i) => i);
    this.#id.sort((a, b) => codes[a * dim]! - codes[b * dim]! || a - b);
    this.#sorted = new Float32Array(codes.length);
    this.#place = new Int32Array(this.#count);
    this.#first = new Float64Array(this.#count);
    this.#id.forEach((id, place) => {
      this.#sorted.set(codes.subarray(id * dim, (id + 1) * dim), place * dim);
      this.#place[id] = place;
      this.#first[place] = codes[id * dim]!;
    });
  }

  /**
   * Id of the code nearest to `x[offset ... offset + d)`, its squared distance in `distance`.
   * `guess`: a code that is likely near (-1: none). `bound`: only codes nearer than this count; -1 if there is none.
   */
  nearest(x: Float64Array, offset: number, guess = -1, bound = Infinity): number {
    const first = this.#first;
    const x0 = x[offset]!;
    let best = bound;
    let bestPlace = -1;
    if (guess >= 0) {
      const place = this.#place[guess]!;
      const distance = this.#distanceBelow(x, offset, place, best);
      if (distance < best) {
        best = distance;
        bestPlace = place;
      }
    }
    let right = this.#firstNotBelow(x0);
    let left = right - 1;
    let leftGap = left >= 0 ? (x0 - first[left]!) ** 2 : Infinity;
    let rightGap = right < this.#count ? (x0 - first[right]!) ** 2 : Infinity;
    for (;;) {
      let place: number;
      if (leftGap < rightGap) {
        if (leftGap >= best) break;
        place = left--;
        leftGap = left >= 0 ? (x0 - first[left]!) ** 2 : Infinity;
      } else {
        if (rightGap >= best) break;
        place = right++;
        rightGap = right < this.#count ? (x0 - first[right]!) ** 2 : Infinity;
      }
      const distance = this.#distanceBelow(x, offset, place, best);
      if (distance < best) {
        best = distance;
        bestPlace = place;
      }
    }
    this.distance = best;
    return bestPlace < 0 ? -1 : this.#id[bestPlace]!;
  }

  /**
   * Ids of the `ids.length` nearest codes, nearest first, and their squared distances. Needs at least that many codes.
   */
  nearestSeveral(x: Float64Array, offset: number, ids: Int32Array, distances: Float64Array): void {
    const first = this.#first;
    const x0 = x[offset]!;
    const wanted = ids.length;
    distances.fill(Infinity);
    let right = this.#firstNotBelow(x0);
    let left = right - 1;
    let worst = Infinity;
    while (left >= 0 || right < this.#count) {
      const leftGap = left >= 0 ? (x0 - first[left]!) ** 2 : Infinity;
      const rightGap = right < this.#count ? (x0 - first[right]!) ** 2 : Infinity;
      if (Math.min(leftGap, rightGap) >= worst) break;
      const place = leftGap < rightGap ? left-- : right++;
      const distance = this.#distanceBelow(x, offset, place, worst);
      if (distance >= worst) continue;
      let slot = wanted - 1;
      for (; slot > 0 && distances[slot - 1]! > distance; slot--) {
        distances[slot] = distances[slot - 1]!;
        ids[slot] = ids[slot - 1]!;
      }
      distances[slot] = distance;
      ids[slot] = this.#id[place]!;
      worst = distances[wanted - 1]!;
    }
  }

  #firstNotBelow(x0: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#first[middle]! < x0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The squared distance, or something not below `bound`. */
  #distanceBelow(x: Float64Array, offset: number, place: number, bound: number): number {
    return squaredDistance(x, offset, this.#sorted, place * this.#dim, this.#dim, bound);
  }
}

/** Squared distance of two vectors; stops early, with a partial sum, once that is not below `bound`. */
function squaredDistance(
  x: Float64Array,
  xOffset: number,
  codes: Float32Array,
  codeOffset: number,
  dim: number,
  bound: number,
): number {
  let sum = 0;
  let i = 0;
  for (; i + 4 <= dim; i += 4) {
    const a = x[xOffset + i]! - codes[codeOffset + i]!;
    const b = x[xOffset + i + 1]! - codes[codeOffset + i + 1]!;
    const c = x[xOffset + i + 2]! - codes[codeOffset + i + 2]!;
    const d = x[xOffset + i + 3]! - codes[codeOffset + i + 3]!;
    sum += a * a + b * b + c * c + d * d;
    if (sum >= bound) return sum;
  }
  for (; i < dim; i++) sum += (x[xOffset + i]! - codes[codeOffset + i]!) ** 2;
  return sum;
}

/** Options of kmeans(). */
export interface KmeansOptions {
  /** Number of codes. */
  codes: number;
  /** Lloyd iterations at most; it stops earlier when no vector changes its code. Default 20. */
  iterations?: number;
  /** Weight of each vector (> 0). Default 1. */
  weights?: Float64Array;
  /** Default 0. */
  seed?: number;
}

/** Codes [k, d] and the code of every vector. */
export interface Kmeans {
  codes: Float32Array;
  assignment: Int32Array;
}

/** k-means++ start, then Lloyd's iterations. Deterministic. `vectors` [n, d], n >= 1. */
export function kmeans(vectors: Float64Array, dim: number, options: KmeansOptions): Kmeans {
  return runHere(kmeansSteps(vectors, dim, options));
}

/** kmeans() as steps; `vectors` in shared memory where other threads take part. */
export function* kmeansSteps(vectors: Float64Array, dim: number, options: KmeansOptions): Steps<Kmeans> {
  const { codes: count, iterations = 20, seed = 0 } = options;
  const n = vectors.length / dim;
  if (!Number.isInteger(n) || n < 1 || !Number.isInteger(count) || count < 1) {
    throw new MotError('ERR_ARGUMENT', `kmeans: expected at least one vector of ${dim} numbers and at least one code`);
  }
  const weights = options.weights ?? new Float64Array(n).fill(1);
  const codes = yield* plusPlus(vectors, weights, dim, count, seed);
  const assignment = new Int32Array(new SharedArrayBuffer(4 * n)).fill(-1);
  const distance = sharedFloat64(n);
  for (let iteration = 0; ; iteration++) {
    const safe = quarterOfNearestGap(codes, dim);
    const changed = yield* pass('assignCodes', assignCodes, { vectors, dim, codes, safe, assignment, distance }, n);
    if (changed === 0 || iteration === iterations) {
      return { codes: Float32Array.from(codes), assignment: Int32Array.from(assignment) };
    }
    moveToMeans(vectors, weights, dim, codes, assignment, distance);
  }
}

/** k-means++: each next code is a vector drawn in proportion to its weight and squared distance from the codes so far. */
function* plusPlus(
  vectors: Float64Array,
  weights: Float64Array,
  dim: number,
  count: number,
  seed: number,
): Steps<Float32Array> {
  const n = vectors.length / dim;
  const key = randomKey(seed, 'kmeans++');
  const codes = new Float32Array(new SharedArrayBuffer(4 * count * dim));
  const distance = shared(new Float64Array(n).fill(Infinity));
  let chosen = Math.floor(randomUniform(key, 0) * n);
  for (let code = 0; code < count; code++) {
    codes.set(vectors.subarray(chosen * dim, (chosen + 1) * dim), code * dim);
    yield* pass('nearerCode', nearerCode, { vectors, dim, codes, code, distance }, n);
    let total = 0;
    for (let i = 0; i < n; i++) total += weights[i]! * distance[i]!;
    let left = randomUniform(key, code + 1) * total;
    chosen = 0;
    while (chosen < n - 1 && (left -= weights[chosen]! * distance[chosen]!) >= 0) chosen++;
  }
  return codes;
}

/** A loop over vectors: squared distances [n] become those from `code` where that is nearer. */
export function nearerCode(task: {
  vectors: Float64Array;
  dim: number;
  codes: Float32Array;
  code: number;
  distance: Float64Array;
}): Loop {
  const { vectors, dim, codes, code, distance } = task;
  return (begin, end) => {
    for (let i = begin; i < end; i++) {
      const d = squaredDistance(vectors, i * dim, codes, code * dim, dim, distance[i]!);
      if (d < distance[i]!) distance[i] = d;
    }
    return 0;
  };
}

/** A loop over vectors: gives each its nearest code; counts those that changed. `safe`: of quarterOfNearestGap(). */
export function assignCodes(task: {
  vectors: Float64Array;
  dim: number;
  codes: Float32Array;
  safe: Float64Array;
  assignment: Int32Array;
  distance: Float64Array;
}): Loop {
  const { vectors, dim, codes, safe, assignment, distance } = task;
  const search = new CodeSearch(codes, dim);
  return (begin, end) => {
    let changed = 0;
    for (let i = begin; i < end; i++) {
      const old = assignment[i]!;
      if (old >= 0) {
        distance[i] = squaredDistance(vectors, i * dim, codes, old * dim, dim, Infinity);
        // Nearer than half the way to the next code: no other can be nearer.
        if (distance[i]! < safe[old]!) continue;
      }
      const code = search.nearest(vectors, i * dim, old);
      distance[i] = search.distance;
      if (code !== old) changed++;
      assignment[i] = code;
    }
    return changed;
  };
}

/** For each code, (half the distance to the nearest other code) squared. */
function quarterOfNearestGap(codes: Float32Array, dim: number): Float64Array {
  const count = codes.length / dim;
  const gap = new Float64Array(count).fill(Infinity);
  const own = new Float64Array(dim);
  for (let a = 0; a < count; a++) {
    for (let i = 0; i < dim; i++) own[i] = codes[a * dim + i]!;
    for (let b = 0; b < count; b++) {
      if (b !== a) gap[a] = Math.min(gap[a]!, squaredDistance(own, 0, codes, b * dim, dim, gap[a]!));
    }
  }
  return gap.map((squared) => squared / 4);
}

/** Moves each code to the mean of its vectors; a code without vectors takes the vector that is worst served. */
function moveToMeans(
  vectors: Float64Array,
  weights: Float64Array,
  dim: number,
  codes: Float32Array,
  assignment: Int32Array,
  distance: Float64Array,
): void {
  const count = codes.length / dim;
  const sum = new Float64Array(count * dim);
  const members = new Float64Array(count);
  for (let i = 0; i < assignment.length; i++) {
    const code = assignment[i]!;
    members[code]! += weights[i]!;
    for (let j = 0; j < dim; j++) sum[code * dim + j]! += weights[i]! * vectors[i * dim + j]!;
  }
  for (let code = 0; code < count; code++) {
    if (members[code]! > 0) {
      for (let j = 0; j < dim; j++) codes[code * dim + j] = sum[code * dim + j]! / members[code]!;
      continue;
    }
    let worst = 0;
    for (let i = 1; i < distance.length; i++) {
      if (weights[i]! * distance[i]! > weights[worst]! * distance[worst]!) worst = i;
    }
    codes.set(vectors.subarray(worst * dim, (worst + 1) * dim), code * dim);
    distance[worst] = 0;
  }
}
