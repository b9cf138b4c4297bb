import { MotError } from '../errors.js';
import { randomKey, type RandomKey } from '../modalities/random.js';

/** Rounds of the Feistel network; four already mix well, two more cost nothing. */
const ROUNDS = 6;

/**
 * A keyed permutation of 0 .. n-1 that is computed, not stored: a Feistel network over the smallest even number of bits
 * that holds n, walked along its cycle until it lands below n (fewer than four steps on average).
 */
export class Permutation {
  /** Number of elements. */
  readonly size: number;
  readonly #half: number;
  readonly #mask: number;
  readonly #keys: Uint32Array;

  /** @param size n, at most 2^52. @param use What it is for: other uses of one seed get other permutations. */
  constructor(size: number, seed: number, use: string) {
    if (!Number.isInteger(size) || size < 0 || size > 2 ** 52)
      throw new MotError('ERR_ARGUMENT', `a permutation needs a size from 0 to 2^52, got ${size}`);
    this.size = size;
    this.#half = 1;
    while (4 ** this.#half < size) this.#half++;
    this.#mask = 2 ** this.#half - 1;
    const key: RandomKey = randomKey(seed, `permutation:${use}`);
    this.#keys = Uint32Array.from({ length: ROUNDS }, (_, round) => mix(key.lo ^ mix(key.hi + round)));
  }

  /** Where `index` goes; 0 <= index < size. */
  at(index: number): number {
    if (!(Number.isInteger(index) && index >= 0 && index < this.size))
      throw new MotError('ERR_ARGUMENT', `permutation index ${index} is not an integer in [0, ${this.size})`);
    let value = index;
    do value = this.#permute(value);
    while (value >= this.size);
    return value;
  }

  /** The network itself: a bijection of [0, 4^half). */
  #permute(value: number): number {
    const radix = this.#mask + 1;
    let left = Math.floor(value / radix);
    let right = value % radix;
    for (const key of this.#keys) {
      const next = (left ^ mix(right ^ key)) & this.#mask;
      left = right;
      right = next;
    }
    return left * radix + right;
  }
}

/** A bijection of 32-bit numbers in which every bit of the input changes about half of the output (lowbias32). */
function mix(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}
