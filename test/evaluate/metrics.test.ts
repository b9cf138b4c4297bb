import { describe, expect, test } from '@jest/globals';
import {
  bootstrapRatio,
  editDistance,
  nearestReference,
  normalisedEditDistance,
  wilson,
} from '../../lib/evaluate/metrics.js';
import { conceptRank } from '../../lib/evaluate/retrieval.js';
import { judgeCaptions, retrievalRates, unitErrorRate } from '../../lib/evaluate/scenes.js';
import { randomKey, randomUniform } from '../../lib/modalities/random.js';

describe('edit distance', () => {
  test.each([
    ['', '', 0],
    ['', 'abc', 3],
    ['abc', '', 3],
    ['abc', 'abc', 0],
    ['kitten', 'sitting', 3],
    ['flaw', 'lawn', 2],
    ['abcd', 'acbd', 2],
  ])('%j and %j: %d', (a, b, distance) => {
    expect(editDistance(a, b)).toBe(distance);
    expect(editDistance(b, a)).toBe(distance);
  });

  test('is that of the definition on random sequences', () => {
    const slow = (a: number[], b: number[]): number => {
      if (a.length === 0 || b.length === 0) return a.length + b.length;
      const [x, ...as] = a;
      const [y, ...bs] = b;
      return Math.min(slow(as, bs) + (x === y ? 0 : 1), slow(as, b) + 1, slow(a, bs) + 1);
    };
    const key = randomKey(1, 'test');
    let draw = 0;
    const sequence = (): number[] =>
      Array.from({ length: Math.floor(randomUniform(key, draw++) * 7) }, () =>
        Math.floor(randomUniform(key, draw++) * 3),
      );
    for (let i = 0; i < 60; i++) {
      const [a, b] = [sequence(), sequence()];
      expect(editDistance(a, b)).toBe(slow(a, b));
    }
  });

  test('normalised by the longer one', () => {
    expect(normalisedEditDistance('kitten', 'sitting')).toBeCloseTo(3 / 7, 12);
    expect(normalisedEditDistance('', 'ab')).toBe(1);
    expect(normalisedEditDistance('', '')).toBe(0);
  });

  test('the nearest reference is the one of the lowest rate', () => {
    expect(nearestReference([1, 2, 3], [[9], [1, 2, 3, 4, 5]])).toEqual({ distance: 2, length: 5 });
  });
});

describe('confidence intervals', () => {
  test.each([
    [0, 10, 0, 0.2775],
    [5, 10, 0.2366, 0.7634],
    [10, 10, 0.7225, 1],
    [1, 100, 0.0018, 0.0545],
  ])('Wilson: %d of %d', (successes, count, low, high) => {
    const estimate = wilson(successes, count);
    expect(estimate.value).toBe(successes / count);
    expect(estimate.low).toBeCloseTo(low, 4);
    expect(estimate.high).toBeCloseTo(high, 4);
  });

  test('nothing of nothing is no NaN', () => {
    const none = { value: 0, low: 0, high: 0, count: 0 };
    expect(wilson(0, 0)).toEqual(none);
    expect(bootstrapRatio([], [])).toEqual(none);
  });

  test('the bootstrap of a ratio weighs cases by their wholes, and has no width where all are alike', () => {
    expect(bootstrapRatio([1, 2, 3], [2, 4, 6])).toEqual({ value: 0.5, low: 0.5, high: 0.5, count: 3 });
    expect(bootstrapRatio([0, 9], [1, 9]).value).toBe(0.9);
  });

  test('the bootstrap of a mean comes near the interval of the normal distribution, and is the same every time', () => {
    const key = randomKey(2, 'test');
    const values = Array.from({ length: 50 }, (_, i) => randomUniform(key, i));
    const ones = values.map(() => 1);
    const { value, low, high, count } = bootstrapRatio(values, ones);
    const mean = values.reduce((sum, x) => sum + x) / 50;
    const deviation = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 50);
    const half = (1.96 * deviation) / Math.sqrt(50);
    expect([value, count]).toEqual([mean, 50]);
    expect(Math.abs(low - (mean - half))).toBeLessThan(0.15 * half);
    expect(Math.abs(high - (mean + half))).toBeLessThan(0.15 * half);
    expect(bootstrapRatio(values, ones)).toEqual({ value, low, high, count });
  });
});

/** Pictures of one pixel. */
const grey = (level: number): Uint8Array => Uint8Array.of(level, level, level);

describe('retrieval', () => {
  // Concepts 0, 1 and 2, the first drawn in two styles.
  const renderings = { pictures: [grey(0), grey(100), grey(40), grey(200)], concepts: [0, 0, 1, 2] };

  test('ranks concepts by their nearest rendering', () => {
    expect([0, 1, 2].map((concept) => conceptRank(grey(90), concept, renderings))).toEqual([0, 1, 2]);
    expect([0, 1, 2].map((concept) => conceptRank(grey(30), concept, renderings))).toEqual([1, 0, 2]);
  });

  test('equally near ones rank by index; a concept that is not among them is last', () => {
    expect(conceptRank(grey(20), 0, renderings)).toBe(0);
    expect(conceptRank(grey(20), 1, renderings)).toBe(1);
    expect(conceptRank(grey(20), 7, renderings)).toBe(3);
  });

  test('counts those at the top and among the five nearest, each on its own background', () => {
    const levels = [0, 30, 60, 90, 120, 150, 180];
    const scenes = levels.map((_, concept) => ({
      concept,
      scene: { layout: 'single' as const, glyphs: [concept], colour: concept % 2 },
    }));
    // On background 1 everything is lighter by 5.
    const on = (colour: number) => ({
      pictures: levels.map((level) => grey(level + 5 * colour)),
      concepts: levels.map((_, concept) => concept),
    });
    const picture = (data: Uint8Array) => ({ width: 1, height: 1, data });
    const truth = scenes.map(({ concept, scene }) => picture(on(scene.colour).pictures[concept]!));
    expect(retrievalRates(scenes, truth, on)).toEqual({ top1: wilson(7, 7), top5: wilson(7, 7) });
    const reversed = [...truth].reverse();
    // Only the middle one stays; its neighbours are still among the five nearest.
    expect(retrievalRates(scenes, reversed, on)).toEqual({ top1: wilson(1, 7), top5: wilson(3, 7) });
  });
});

test('a caption is right in whatever phrasing', () => {
  const scenes = [
    { concept: 0, phrasings: ['red cat', 'cat in red'] },
    { concept: 1, phrasings: ['blue dog'] },
    { concept: 1, phrasings: ['red dog'] },
  ];
  const captionsOf = (concept: number): Set<string> =>
    new Set(
      [
        ['red cat', 'cat in red'],
        ['blue dog', 'red dog'],
      ][concept],
    );
  expect(judgeCaptions(scenes, ['cat in red', 'blue log', 'blue dog'], captionsOf, 0)).toMatchObject({
    exact: { value: 1 / 3, count: 3 },
    concept: { value: 2 / 3, count: 3 },
    editDistance: { value: (1 / 8 + 4 / 8) / 3, count: 3 },
  });
});

test('the unit error rate pools edits over true units, of the nearest voice, repeats removed', () => {
  const truth = [
    [
      [1, 2, 3, 4],
      [7, 8, 9, 7],
    ],
    [[5, 6]],
  ];
  expect(unitErrorRate([[7, 7, 8, 9, 9, 7], [5]], truth, 0)).toMatchObject({ value: 1 / 6, count: 2 });
  expect(
    unitErrorRate(
      [
        [7, 8, 8],
        [5, 6, 5, 6, 5],
      ],
      truth,
      0,
    ).value,
  ).toBeCloseTo((2 + 3) / 6, 12);
});
