import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Permutation } from '../../lib/data/permutation.js';

describe('Permutation', () => {
  test('is a bijection for any size, seed and use', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 700 }), fc.nat(), fc.string(), (size, seed, use) => {
        const permutation = new Permutation(size, seed, use);
        const images = new Set(Array.from({ length: size }, (_, i) => permutation.at(i)));
        expect(images.size).toBe(size);
        for (const image of images) expect(image >= 0 && image < size && Number.isInteger(image)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  test.each([1, 2, 3, 4, 5, 15, 16, 17, 255, 256, 257, 4096, 65537])('is a bijection of %i', (size) => {
    const permutation = new Permutation(size, 1, 'size');
    expect(new Set(Array.from({ length: size }, (_, i) => permutation.at(i))).size).toBe(size);
  });

  test('has no repeats in a sample of a large range', () => {
    const size = 2 ** 45 + 12345;
    const permutation = new Permutation(size, 7, 'large');
    const images = Array.from({ length: 5000 }, (_, i) => permutation.at(size - 1 - i));
    expect(new Set(images).size).toBe(5000);
    expect(images.every((image) => image < size)).toBe(true);
    // Spread over the range, not near its end.
    expect(images.filter((image) => image < size / 2).length).toBeGreaterThan(2200);
    expect(images.filter((image) => image < size / 2).length).toBeLessThan(2800);
  });

  test('depends on seed and use', () => {
    const order = (seed: number, use: string): number[] => {
      const permutation = new Permutation(100, seed, use);
      return Array.from({ length: 100 }, (_, i) => permutation.at(i));
    };
    expect(order(0, 'a')).toEqual(order(0, 'a'));
    expect(order(0, 'a')).not.toEqual(order(1, 'a'));
    expect(order(0, 'a')).not.toEqual(order(0, 'b'));
  });

  test('mixes: few places stay, few neighbours stay neighbours', () => {
    const size = 10000;
    const permutation = new Permutation(size, 3, 'mix');
    const order = Array.from({ length: size }, (_, i) => permutation.at(i));
    expect(order.filter((image, i) => image === i).length).toBeLessThan(12);
    expect(order.filter((image, i) => i > 0 && Math.abs(image - order[i - 1]!) === 1).length).toBeLessThan(15);
  });

  test.each([-1, 0.5, 2 ** 52 + 2, NaN])('rejects size %p', (size) => {
    expect(() => new Permutation(size, 0, '')).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
  });

  test.each([-1, 10, 0.5, NaN])('rejects index %p of 10', (index) => {
    expect(() => new Permutation(10, 0, '').at(index)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
  });
});
