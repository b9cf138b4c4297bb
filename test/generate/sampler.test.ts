import { describe, expect, test } from '@jest/globals';
import { checkSampling, sampleToken } from '../../lib/generate/sampler.js';

const all = [[0, 5]] as const;
const logits = Float32Array.of(0, 2, 1, -1, 2);

/** Share of each token over evenly spread draws. */
function shares(
  options: { temperature?: number; topK?: number; topP?: number },
  allowed: readonly (readonly [number, number])[] = all,
): number[] {
  const counts = new Array<number>(logits.length).fill(0);
  const draws = 20000;
  for (let i = 0; i < draws; i++) counts[sampleToken(logits, allowed, checkSampling(options), (i + 0.5) / draws)]!++;
  return counts.map((count) => count / draws);
}

describe('sampleToken', () => {
  test('draws with the probabilities of the softmax', () => {
    const weights = [...logits].map(Math.exp);
    const total = weights.reduce((a, b) => a + b);
    shares({}).forEach((share, i) => expect(share).toBeCloseTo(weights[i]! / total, 3));
  });

  test('temperature sharpens', () => {
    const weights = [...logits].map((logit) => Math.exp(logit / 0.5));
    const total = weights.reduce((a, b) => a + b);
    shares({ temperature: 0.5 }).forEach((share, i) => expect(share).toBeCloseTo(weights[i]! / total, 3));
  });

  test('temperature 0 takes the likeliest, the lower id where two are equal', () => {
    expect(shares({ temperature: 0 })).toEqual([0, 1, 0, 0, 0]);
  });

  test('topK keeps so many', () => {
    expect(shares({ topK: 2 })).toEqual([0, 0.5, 0, 0, 0.5]);
  });

  test('topP keeps the least set that reaches it', () => {
    // 1 and 4 have 0.39 each, 2 has 0.14.
    expect(shares({ topP: 0.5 })).toEqual([0, 0.5, 0, 0, 0.5]);
    expect(shares({ topP: 0.85 }).map((share) => share > 0)).toEqual([false, true, true, false, true]);
  });

  test('only allowed tokens are drawn, from several ranges', () => {
    const share = shares({}, [
      [0, 1],
      [2, 4],
    ]);
    expect(share[1]).toBe(0);
    expect(share[4]).toBe(0);
    expect(share[2]! / share[0]!).toBeCloseTo(Math.E, 2);
  });

  test('refuses options out of range and logits that are not numbers', () => {
    for (const options of [
      { temperature: -1 },
      { temperature: NaN },
      { topK: 1.5 },
      { topK: -1 },
      { topP: 0 },
      { topP: 1.1 },
    ])
      expect(() => checkSampling(options)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
    expect(() => sampleToken(Float32Array.of(0, NaN), [[0, 2]], checkSampling({}), 0.5)).toThrow(
      expect.objectContaining({ code: 'ERR_NOT_FINITE' }),
    );
  });
});
