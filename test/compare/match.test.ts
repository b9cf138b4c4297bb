import { describe, expect, test } from '@jest/globals';
import { estimateMatch, type RunCurve } from '../../lib/compare/bootstrap.js';
import { matchSteps, slopeThroughOrigin } from '../../lib/compare/match.js';
import { geometricGrid, smoothCurve, Smoother } from '../../lib/compare/smooth.js';
import { randomKey, randomUniform, type RandomKey } from '../../lib/modalities/random.js';

const STEPS = 4000;
/** A loss as language models have it. */
const loss = (step: number): number => 1.5 + 8 * step ** -0.35;
const range = (count: number, every = 1): number[] => Array.from({ length: count }, (_, i) => (i + 1) * every);

const keys = new Map<number, RandomKey>();

/** Roughly normal noise of standard deviation 1, of a seed and step. */
function noise(seed: number, step: number): number {
  let key = keys.get(seed);
  if (key === undefined) keys.set(seed, (key = randomKey(seed, 'test.noise')));
  let sum = 0;
  for (let i = 0; i < 12; i++) sum += randomUniform(key, 12 * step + i);
  return sum - 6;
}

/** A run whose loss is that of `loss`, reached after `stretch` times the steps. */
function run(seed: number, stretch: number, sigma: number, every = 1, secondsPerStep = 1): RunCurve {
  const step = range(STEPS / every, every);
  return {
    seed,
    curve: { step, value: step.map((t) => loss(t / stretch) + sigma * noise(1000 * stretch + seed, t)) },
    cost: { flops: 10, seconds: secondsPerStep },
  };
}

describe('smoothing', () => {
  test('leaves a straight line over log(step) as it is, at the ends too', () => {
    const step = range(200);
    const line = step.map((t) => 4 - 0.3 * Math.log(t));
    new Smoother(step).apply(line).forEach((v, i) => expect(v).toBeCloseTo(line[i]!, 10));
    const at = geometricGrid(3, 200, 50);
    new Smoother(step, at).apply(line).forEach((v, i) => expect(v).toBeCloseTo(4 - 0.3 * Math.log(at[i]!), 10));
  });

  test('takes noise away, and gives the residuals the variance of the noise', () => {
    const step = range(STEPS);
    const noisy = step.map((t) => loss(t) + 0.1 * noise(1, t));
    const smoother = new Smoother(step);
    const fit = smoother.apply(noisy);
    const late = step.filter((t) => t > 400);
    const error = late.map((t) => (fit[t - 1]! - loss(t)) ** 2).reduce((a, b) => a + b, 0) / late.length;
    expect(Math.sqrt(error)).toBeLessThan(0.015);
    const residuals = smoother.residuals(noisy, fit).slice(50);
    const deviation = Math.sqrt(residuals.reduce((sum, r) => sum + r * r, 0) / residuals.length);
    expect(deviation).toBeGreaterThan(0.095);
    expect(deviation).toBeLessThan(0.105);
  });

  test.each([1, 2, 3])('a curve of %d points', (count) => {
    const curve = { step: range(count), value: range(count).map((t) => 5 - t) };
    expect(smoothCurve(curve).value.every(Number.isFinite)).toBe(true);
  });
});

describe('matching', () => {
  const grid = range(STEPS);
  const dense = grid.map(loss);

  test.each([0.15, 0.5, 0.9, 1, 1.3, 2.75])('a curve that is the baseline stretched by %d has that slope', (s) => {
    const other = grid.map((t) => loss(t / s));
    const result = matchSteps(grid, dense, other, 200);
    expect(result.slope!).toBeCloseTo(s, 3);
    expect(result.end!).toBeCloseTo(s, 3);
    expect(result.reached).toBe(s <= 1);
    if (s > 1) {
      expect(result.atLeast).toBe(1);
      expect(result.covered).toBeCloseTo(1 / s, 2);
    } else {
      expect(result.atLeast).toBeNull();
      expect(result.covered).toBe(1);
    }
  });

  test('a curve against itself has slope 1 exactly', () => {
    const result = matchSteps(grid, dense, dense);
    expect(result.slope).toBe(1);
    expect(result.end).toBe(1);
    expect(result.other).toEqual(result.baseline);
  });

  test('a model that is never as good has no slope, but a bound', () => {
    const result = matchSteps(
      grid,
      dense,
      grid.map(() => 8),
      200,
    );
    expect(result).toMatchObject({
      slope: null,
      end: null,
      reached: false,
      atLeast: STEPS / 200,
      atMost: null,
      covered: 0,
    });
  });

  test('a model that is better from its first point on has no slope, but a bound', () => {
    const late = grid.slice(99);
    const result = matchSteps(
      late,
      late.map(loss),
      late.map(() => 1.4),
      200,
    );
    expect(result).toMatchObject({ slope: null, end: null, reached: true, atLeast: null, atMost: 100 / STEPS });
  });

  test('a plateau of the baseline counts once, at its beginning', () => {
    const stuck = grid.map((t) => loss(Math.min(t, 1000)));
    const result = matchSteps(grid, stuck, dense, 100);
    expect(result.baseline.at(-1)).toBe(1000);
    expect(result.slope).toBe(1);
    expect(result.reached).toBe(true);
  });

  test('a rise is passed over: the first step at which the loss was reached counts', () => {
    const bumpy = grid.map((t) => loss(t) + (t > 1500 && t < 1700 ? 1 : 0));
    const result = matchSteps(grid, dense, bumpy, 100);
    expect(result.other[result.baseline.indexOf(1499)]).toBe(1499);
    expect(result.other[result.baseline.indexOf(1800)]).toBeCloseTo(1800, 6);
    for (let i = 1; i < result.other.length; i++) expect(result.other[i]!).toBeGreaterThanOrEqual(result.other[i - 1]!);
  });

  test('steps between points are interpolated', () => {
    const { other } = matchSteps([10, 20, 30], [3, 2, 1], [3, 1.5, 0.5]);
    [10, 10 + 20 / 3, 25].forEach((step, i) => expect(other[i]!).toBeCloseTo(step, 10));
  });

  test('equal losses on a grid without any fall', () => {
    const flat = grid.map(() => 2);
    expect(matchSteps(grid, flat, flat)).toMatchObject({ baseline: [1], other: [1], slope: 1, reached: true });
    expect(matchSteps(grid, flat, flat, 100)).toMatchObject({
      slope: null,
      reached: true,
      atLeast: null,
      atMost: null,
    });
  });

  test('the slope weighs a stretch of steps the same, however many points it has', () => {
    const x = [...range(100, 10), ...range(9).map((i) => 500 + i)].sort((a, b) => a - b);
    const y = x.map((v) => (v <= 500 ? 0.5 : 0.6) * v);
    const even = range(1000);
    const expected = slopeThroughOrigin(
      even,
      even.map((v) => (v <= 500 ? 0.5 : 0.6) * v),
    )!;
    expect(slopeThroughOrigin(x, y)!).toBeCloseTo(expected, 2);
    expect(slopeThroughOrigin([], [])).toBeNull();
    expect(slopeThroughOrigin([4], [2])).toBe(0.5);
  });
});

describe('estimates', () => {
  const seeds = [0, 1];

  test.each([0.3, 0.6, 1, 1.5])('noisy training curves stretched by %d: the interval holds it', (s) => {
    const dense = seeds.map((seed) => run(seed, 1, 0.15));
    const other = seeds.map((seed) => run(seed, s, 0.15));
    const { measures, matching } = estimateMatch(dense, other, { from: 200, draws: 200 })!;
    const { value, low, high } = measures['steps']!.slope;
    expect(Math.abs(value! / s - 1)).toBeLessThan(0.06);
    expect(low!).toBeLessThan(s);
    expect(high!).toBeGreaterThan(s);
    expect(high! - low!).toBeLessThan(0.4 * s);
    expect(matching.reached || s >= 1).toBe(true);
  });

  test('validation curves of few points', () => {
    const dense = [run(0, 1, 0.003, 100)];
    const other = [run(0, 0.5, 0.003, 100)];
    const { value, low, high } = estimateMatch(dense, other, { from: 200, draws: 200 })!.measures['steps']!.slope;
    expect(value!).toBeCloseTo(0.5, 1);
    expect(low!).toBeLessThan(high!);
  });

  test('costs of a step scale the fractions of FLOPs and seconds', () => {
    const dense = [run(0, 1, 0)];
    const other = [run(0, 0.5, 0, 1, 1.2)];
    const { measures } = estimateMatch(dense, other, { from: 200, draws: 20 })!;
    expect(measures['steps']!.slope.value!).toBeCloseTo(0.5, 2);
    expect(measures['flops']!.slope.value!).toBe(measures['steps']!.slope.value!);
    expect(measures['seconds']!.slope.value!).toBeCloseTo(1.2 * measures['steps']!.slope.value!, 10);
    expect(measures['seconds']!.slope.low!).toBeCloseTo(1.2 * measures['steps']!.slope.low!, 10);
  });

  test('the difference between seeds widens the interval', () => {
    const width = (stretches: number[]): number => {
      const other = stretches.map((s, seed) => run(seed, s, 0.02));
      const { low, high } = estimateMatch([run(0, 1, 0.02)], other, { from: 200, draws: 200 })!.measures['steps']!
        .slope;
      return high! - low!;
    };
    expect(width([0.4, 0.6])).toBeGreaterThan(3 * width([0.5, 0.5]));
  });

  test('is the same every time, and identical runs have slope 1 without an interval', () => {
    const dense = [run(0, 1, 0.1)];
    const twice = [estimateMatch(dense, dense, { draws: 30 }), estimateMatch(dense, dense, { draws: 30 })];
    expect(twice[0]).toEqual(twice[1]);
    const { value, low, high } = twice[0]!.measures['steps']!.slope;
    for (const one of [value, low, high]) expect(one!).toBeCloseTo(1, 12);
  });

  test('an interval without an upper end where draws are not measurable', () => {
    const dense = [run(0, 1, 0.2, 100)];
    const worse: RunCurve = {
      seed: 0,
      curve: { step: range(40, 100), value: range(40, 100).map((t) => 3.05 + 0.2 * noise(5, t)) },
      cost: { flops: 1, seconds: 1 },
    };
    const { measures } = estimateMatch(dense, [worse], { from: 200, draws: 200 })!;
    for (const { slope, end } of Object.values(measures))
      for (const one of [slope, end])
        for (const number of [one.value, one.low, one.high])
          expect(number === null || Number.isFinite(number)).toBe(true);
  });

  test('no estimate without enough points or runs', () => {
    const short: RunCurve = { seed: 0, curve: { step: [1, 2], value: [2, 1] }, cost: {} };
    expect(estimateMatch([short], [run(0, 1, 0)])).toBeUndefined();
    expect(estimateMatch([], [run(0, 1, 0)])).toBeUndefined();
  });
});
