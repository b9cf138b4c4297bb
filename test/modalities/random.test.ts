import { describe, expect, test } from '@jest/globals';
import { randomBits, randomKey, randomUniform } from '../../lib/modalities/random.js';

describe('counter-based random numbers', () => {
  test('are those of Philox 4x32-10 and of native/core/rng.h', () => {
    expect(randomBits({ hi: 0, lo: 0 }, 0)).toBe(0x6627e8d5); // known answer of the paper's test vectors
    const key = randomKey(42, 'kmeans++');
    expect(key).toEqual({ hi: 2797271942, lo: 1458662654 });
    expect([0, 1, 4294967295].map((index) => randomBits(key, index))).toEqual([2284803019, 2405380363, 3775427944]);
  });

  test('are uniform, and differ by seed and use', () => {
    const key = randomKey(1, 'a');
    const n = 20000;
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < n; i++) counts[Math.floor(10 * randomUniform(key, i))]!++;
    // Five standard deviations of a binomial count.
    for (const count of counts) expect(Math.abs(count - n / 10)).toBeLessThan(5 * Math.sqrt(n * 0.09));
    expect(randomBits(randomKey(2, 'a'), 0)).not.toBe(randomBits(key, 0));
    expect(randomBits(randomKey(1, 'b'), 0)).not.toBe(randomBits(key, 0));
  });
});
