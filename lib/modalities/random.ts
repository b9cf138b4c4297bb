/**
 * Counter-based random numbers (Philox 4x32-10): value `index` of a key is a pure function of both, so draws do not
 * depend on order. The same numbers as `native/core/rng.h` for indices below 2^32.
 */
export interface RandomKey {
  hi: number;
  lo: number;
}

const MASK64 = (1n << 64n) - 1n;

/** Key of (seed, use): one key for each purpose, so that no two purposes share numbers. */
export function randomKey(seed: number, use: string): RandomKey {
  let h = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(use)) h = ((h ^ BigInt(byte)) * 0x100000001b3n) & MASK64;
  h ^= (BigInt(seed) * 0x9e3779b97f4a7c15n) & MASK64;
  h = ((h ^ (h >> 31n)) * 0xbf58476d1ce4e5b9n) & MASK64;
  h ^= h >> 29n;
  return { hi: Number(h >> 32n), lo: Number(h & 0xffffffffn) };
}

/** High 32 bits of the product of two unsigned 32-bit numbers. */
function mulHigh(a: number, b: number): number {
  const al = a & 0xffff;
  const ah = a >>> 16;
  const bl = b & 0xffff;
  const bh = b >>> 16;
  const middle = ah * bl + ((al * bl) >>> 16);
  const carry = al * bh + (middle & 0xffff);
  return (ah * bh + (middle >>> 16) + (carry >>> 16)) >>> 0;
}

/**
 * 32 random bits, as an unsigned number. `index`, and the further counters where one is not enough (such as document,
 * epoch), are integers in [0, 2^32).
 */
export function randomBits(key: RandomKey, index: number, a = 0, b = 0): number {
  philox(key, index, a, b, 0, BLOCK);
  return BLOCK[0]!;
}

const BLOCK = new Uint32Array(4);

/** The four words [4] of a counter of four 32-bit numbers. */
function philox(key: RandomKey, c0: number, c1: number, c2: number, c3: number, out: Uint32Array): void {
  let k0 = key.lo;
  let k1 = key.hi;
  for (let round = 0; round < 10; round++) {
    const low0 = Math.imul(0xd2511f53, c0) >>> 0;
    const low2 = Math.imul(0xcd9e8d57, c2) >>> 0;
    const high0 = mulHigh(0xd2511f53, c0 >>> 0);
    const high2 = mulHigh(0xcd9e8d57, c2 >>> 0);
    c0 = (high2 ^ c1 ^ k0) >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c1 = low2;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/**
 * Fills `out` with draws from the standard normal distribution (Box-Muller). They follow from the key and three counters
 * of 32 bits, such as document, epoch and step; element i is the same whatever the length.
 */
export function randomNormals(key: RandomKey, [a, b = 0, c = 0]: readonly number[], out: Float32Array): void {
  for (let i = 0; i < out.length; i += 4) {
    philox(key, i >>> 2, a!, b, c, BLOCK);
    for (let pair = 0; pair < 4 && i + pair < out.length; pair += 2) {
      // In (0, 1], so that the logarithm is finite.
      const radius = Math.sqrt(-2 * Math.log((BLOCK[pair]! + 1) / 4294967296));
      const angle = (BLOCK[pair + 1]! / 4294967296) * 2 * Math.PI;
      out[i + pair] = radius * Math.cos(angle);
      if (i + pair + 1 < out.length) out[i + pair + 1] = radius * Math.sin(angle);
    }
  }
}

/** Uniform in [0, 1), 32 bits. */
export function randomUniform(key: RandomKey, index: number, a = 0, b = 0): number {
  return randomBits(key, index, a, b) / 4294967296;
}
