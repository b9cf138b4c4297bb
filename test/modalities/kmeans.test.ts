import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { CodeSearch, kmeans, kmeansSteps } from '../../lib/modalities/kmeans.js';
import { principalAxes, rotate, rotateBack } from '../../lib/modalities/rotation.js';
import { runOnThreads, shared } from '../../lib/modalities/training_steps.js';
import { stream } from './support.js';

function numbers(count: number, seed: number): Float64Array {
  const next = stream(seed);
  return Float64Array.from({ length: count }, () => next() * 2 - 1);
}

function distances(x: Float64Array, codes: Float32Array): { code: number; distance: number }[] {
  const dim = x.length;
  return Array.from({ length: codes.length / dim }, (_, code) => {
    let distance = 0;
    for (let i = 0; i < dim; i++) distance += (x[i]! - codes[code * dim + i]!) ** 2;
    return { code, distance };
  }).sort((a, b) => a.distance - b.distance);
}

describe('CodeSearch', () => {
  test('finds what a full search finds', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 11 }), fc.nat(1e6), (count, dim, seed) => {
        const codes = Float32Array.from(numbers(count * dim, seed));
        const x = numbers(dim + 3, seed + 1);
        const search = new CodeSearch(codes, dim);
        const expected = distances(x.slice(3), codes);
        const best = expected[0]!;
        expect(search.nearest(x, 3, seed % count)).toBe(best.code);
        expect(search.distance).toBeCloseTo(best.distance, 12);
        expect(search.nearest(x, 3)).toBe(best.code);
        expect(search.nearest(x, 3, -1, best.distance * (1 - 1e-9))).toBe(-1);
        expect(search.nearest(x, 3, -1, best.distance * (1 + 1e-9) + 1e-12)).toBe(best.code);

        const several = Math.min(count, 5);
        const ids = new Int32Array(several);
        const found = new Float64Array(several);
        search.nearestSeveral(x, 3, ids, found);
        expect([...ids]).toEqual(expected.slice(0, several).map(({ code }) => code));
        found.forEach((distance, i) => expect(distance).toBeCloseTo(expected[i]!.distance, 12));
      }),
    );
  });
});

describe('kmeans', () => {
  test('finds clusters that lie apart', () => {
    const centres = [-20, -3, 4, 9, 30];
    const noise = numbers(500, 1);
    const vectors = noise.map((value, i) => 0.1 * value + centres[(i >> 1) % 5]!);
    const { codes, assignment } = kmeans(vectors, 2, { codes: 5, seed: 3 });
    const found = Array.from({ length: 5 }, (_, i) => codes[2 * i]!).sort((a, b) => a - b);
    found.forEach((value, i) => expect(Math.abs(value - centres[i]!)).toBeLessThan(0.05));
    for (let i = 5; i < 250; i++) expect(assignment[i]).toBe(assignment[i - 5]);
  });

  test('ends with nearest codes and codes that are means', () => {
    const vectors = numbers(3 * 400, 7);
    const { codes, assignment } = kmeans(vectors, 3, { codes: 12, iterations: 200 });
    const sums = new Float64Array(codes.length);
    const members = new Float64Array(12);
    assignment.forEach((code, i) => {
      expect(distances(vectors.slice(3 * i, 3 * i + 3), codes)[0]!.code).toBe(code);
      members[code]!++;
      for (let j = 0; j < 3; j++) sums[3 * code + j]! += vectors[3 * i + j]!;
    });
    codes.forEach((value, i) => expect(value).toBeCloseTo(sums[i]! / members[Math.floor(i / 3)]!, 5));
  });

  test('a weight is worth as many copies', () => {
    const { codes } = kmeans(Float64Array.of(0, 1, 10, 12), 1, { codes: 2, weights: Float64Array.of(3, 1, 1, 3) });
    expect([...codes].sort((a, b) => a - b)).toEqual([0.25, 11.5]);
  });

  test('takes more codes than there are different vectors, and is deterministic', () => {
    const vectors = Float64Array.of(1, 1, 1, 1, 5, 5);
    const { codes, assignment } = kmeans(vectors, 2, { codes: 4 });
    expect(codes.every(Number.isFinite)).toBe(true);
    expect(assignment[0]).toBe(assignment[1]);
    expect([...codes.subarray(2 * assignment[2]!, 2 * assignment[2]! + 2)]).toEqual([5, 5]);
    const many = numbers(900, 2);
    expect(kmeans(many, 3, { codes: 20, seed: 5 })).toEqual(kmeans(many, 3, { codes: 20, seed: 5 }));
    expect(kmeans(many, 3, { codes: 20, seed: 5 })).not.toEqual(kmeans(many, 3, { codes: 20, seed: 6 }));
  });

  test('is the same on any number of threads', async () => {
    const vectors = shared(numbers(4 * 5000, 9));
    const expected = kmeans(vectors, 4, { codes: 30, seed: 2 });
    for (const threads of [1, 2, 3]) {
      expect(await runOnThreads(kmeansSteps(vectors, 4, { codes: 30, seed: 2 }), threads)).toEqual(expected);
    }
  });

  test('rejects no vectors', () => {
    expect(() => kmeans(new Float64Array(0), 2, { codes: 1 })).toThrow(
      expect.objectContaining({ code: 'ERR_ARGUMENT' }),
    );
  });
});

describe('principalAxes', () => {
  test('turns correlated numbers into uncorrelated ones, largest variance first, and back', () => {
    const [dim, n] = [9, 300];
    const plain = numbers(dim * n, 4);
    const mix = numbers(dim * dim, 5);
    const vectors = new Float64Array(dim * n);
    for (let i = 0; i < n; i++) {
      for (let a = 0; a < dim; a++) {
        for (let b = 0; b < dim; b++) vectors[i * dim + a]! += mix[a * dim + b]! * plain[i * dim + b]!;
      }
    }
    const rotation = principalAxes(vectors, dim);
    const rotated = new Float64Array(dim * n);
    for (let i = 0; i < n; i++) rotate(rotation, vectors, i * dim, rotated, i * dim);
    const covariance = (a: number, b: number): number => {
      let sum = 0;
      for (let i = 0; i < n; i++) sum += rotated[i * dim + a]! * rotated[i * dim + b]!;
      return sum / n;
    };
    for (let a = 0; a < dim; a++) {
      if (a > 0) expect(covariance(a, a)).toBeLessThanOrEqual(covariance(a - 1, a - 1));
      for (let b = 0; b < a; b++) expect(Math.abs(covariance(a, b))).toBeLessThan(1e-5);
    }
    const back = rotateBack(rotation, Float32Array.from(rotated), 5 * dim, true);
    back.forEach((value, a) => expect(value).toBeCloseTo(vectors[5 * dim + a]!, 5));
  });
});
