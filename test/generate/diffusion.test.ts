import { describe, expect, test } from '@jest/globals';
import {
  checkDiffusion,
  cosineSchedule,
  denoise,
  guide,
  samplingTimesteps,
  type DenoiseStep,
} from '../../lib/generate/diffusion.js';
import { randomKey, randomNormals } from '../../lib/modalities/random.js';

const normals = (count: number, use: number): Float32Array => {
  const out = new Float32Array(count);
  randomNormals(randomKey(11, 'diffusion.test'), [use], out);
  return out;
};
const largest = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Math.max(...Array.from(a, (x, i) => Math.abs(x - b[i]!)));

/** Runs the whole loop with an oracle that knows the clean values, and gives what comes out. */
function sample(clean: Float32Array, samplingSteps: number, eta: number, range?: DenoiseStep['range']): Float32Array {
  const schedule = cosineSchedule(1000);
  const timesteps = samplingTimesteps(1000, samplingSteps);
  const x = normals(clean.length, 0);
  timesteps.forEach((t, i) => {
    const from = schedule[t]!;
    const next = timesteps[i + 1];
    const predicted = Float64Array.from(x, (value, j) => (value - Math.sqrt(from) * clean[j]!) / Math.sqrt(1 - from));
    const step = { from, to: next === undefined ? 1 : schedule[next]!, eta, ...(range ? { range } : {}) };
    denoise(x, predicted, normals(clean.length, 1 + i), step);
  });
  return x;
}

describe('cosineSchedule', () => {
  // torch.cumprod in float64, cosine_alpha_bar of the specification.
  test.each([
    [1000, 0, 0.99995871577517803],
    [1000, 1, 0.99991257592736782],
    [1000, 499, 0.49384359044063819],
    [1000, 998, 2.4287669070348544e-6],
    [1000, 999, 2.4287669070348567e-9],
    [4, 0, 0.84701216132690471],
  ])('of %i steps at %i is %d', (steps, t, expected) => {
    const schedule = cosineSchedule(steps);
    expect(schedule).toHaveLength(steps);
    expect(Math.abs(schedule[t]! / expected - 1)).toBeLessThan(1e-12);
  });

  test('falls, from nearly clean to nearly noise', () => {
    const schedule = cosineSchedule(1000);
    for (let t = 1; t < 1000; t++) expect(schedule[t]!).toBeLessThan(schedule[t - 1]!);
  });
});

test('timesteps are even, fall, begin with the noisiest, and all are visited where there are as many', () => {
  expect(Array.from(samplingTimesteps(1000, 4))).toEqual([999, 749, 499, 249]);
  expect(Array.from(samplingTimesteps(5, 5))).toEqual([4, 3, 2, 1, 0]);
  expect(Array.from(samplingTimesteps(7, 1))).toEqual([6]);
  const some = Array.from(samplingTimesteps(1000, 333));
  expect(new Set(some).size).toBe(333);
  expect(Math.min(...some)).toBeGreaterThanOrEqual(0);
});

describe('denoise', () => {
  test('with the true noise gives the clean values in one step', () => {
    const clean = normals(64, 5);
    const noise = normals(64, 6);
    const x = clean.map((value, i) => Math.sqrt(0.3) * value + Math.sqrt(0.7) * noise[i]!);
    denoise(x, noise, [], { from: 0.3, to: 1, eta: 1 });
    expect(largest(x, clean)).toBeLessThan(1e-5);
  });

  test('velocity gives the same as the noise that it stands for, and the clean values where there is only noise', () => {
    const clean = normals(64, 5);
    const noise = normals(64, 6);
    const [a, b] = [Math.sqrt(0.3), Math.sqrt(0.7)];
    const x = clean.map((value, i) => a * value + b * noise[i]!);
    const velocity = clean.map((value, i) => a * noise[i]! - b * value);
    for (const range of [undefined, [-1, 1] as const]) {
      const step = { from: 0.3, to: 0.8, eta: 0.5, ...(range ? { range } : {}) };
      const [given, expected] = [Float32Array.from(x), Float32Array.from(x)];
      denoise(given, velocity, normals(64, 7), { ...step, prediction: 'velocity' });
      denoise(expected, noise, normals(64, 7), step);
      expect(largest(given, expected)).toBeLessThan(1e-5);
    }
    const level = cosineSchedule(1000).at(-1)!;
    const blind = Float32Array.from(noise, (value, i) => Math.sqrt(level) * clean[i]! + Math.sqrt(1 - level) * value);
    const told = clean.map((value, i) => Math.sqrt(level) * noise[i]! - Math.sqrt(1 - level) * value);
    denoise(blind, told, [], { from: level, to: 1, eta: 1, prediction: 'velocity' });
    expect(largest(blind, clean)).toBeLessThan(1e-5);
  });

  test('DDIM keeps the noise while it lowers the level', () => {
    const clean = normals(64, 5);
    const noise = normals(64, 6);
    const mix = (level: number) => clean.map((v, i) => Math.sqrt(level) * v + Math.sqrt(1 - level) * noise[i]!);
    const x = mix(0.3);
    denoise(x, noise, [], { from: 0.3, to: 0.8, eta: 0 });
    expect(largest(x, mix(0.8))).toBeLessThan(1e-5);
  });

  test('eta 1 is DDPM: mean and variance of the posterior q(x_s | x_t, x_0)', () => {
    const [from, to, clean, noisy] = [0.4, 0.55, 0.7, -1.2];
    const alpha = from / to;
    // Ho et al. 2020, equations 6 and 7.
    const mean =
      (Math.sqrt(to) * (1 - alpha) * clean) / (1 - from) + (Math.sqrt(alpha) * (1 - to) * noisy) / (1 - from);
    const variance = ((1 - to) / (1 - from)) * (1 - alpha);
    const eps = (noisy - Math.sqrt(from) * clean) / Math.sqrt(1 - from);
    for (const fresh of [0, 1.5]) {
      const x = Float32Array.of(noisy);
      denoise(x, [eps], [fresh], { from, to, eta: 1 });
      expect(x[0]).toBeCloseTo(mean + Math.sqrt(variance) * fresh, 6);
    }
  });

  test.each([
    [1, 1],
    [10, 0],
    [50, 1],
    [50, 0.5],
    [1000, 1],
  ])('an oracle of the noise recovers the clean values in %i steps, eta %d', (steps, eta) => {
    const clean = normals(48, 9).map((x) => Math.max(-2, Math.min(2, x)));
    expect(largest(sample(clean, steps, eta, [-2, 2]), clean)).toBeLessThan(2e-3);
  });

  test('estimates are kept in range, and the noise made to agree', () => {
    const x = Float32Array.of(3);
    denoise(x, [0], [], { from: 0.25, to: 0.64, eta: 0, range: [-1, 1] });
    const eps = (3 - 0.5) / Math.sqrt(0.75);
    expect(x[0]).toBeCloseTo(0.8 + 0.6 * eps, 6);
  });

  test('an oracle of normal data gives normal samples', () => {
    // Of standard normal data the best prediction is sqrt(1 - a) x.
    const schedule = cosineSchedule(1000);
    const timesteps = samplingTimesteps(1000, 200);
    const x = normals(4000, 0);
    timesteps.forEach((t, i) => {
      const from = schedule[t]!;
      const next = timesteps[i + 1];
      const predicted = x.map((value) => Math.sqrt(1 - from) * value);
      denoise(x, predicted, normals(x.length, 1 + i), { from, to: next === undefined ? 1 : schedule[next]!, eta: 1 });
    });
    const variance = x.reduce((sum, v) => sum + v * v, 0) / x.length;
    expect(Math.abs(variance - 1)).toBeLessThan(0.08);
  });
});

test('guidance goes from the prediction without a caption past the one with it', () => {
  for (const [guidance, expected] of [
    [0, 1],
    [1, 3],
    [3, 7],
  ] as const) {
    const predicted = Float32Array.of(3);
    guide(predicted, [1], guidance);
    expect(predicted[0]).toBe(expected);
  }
});

test('options out of range are refused by name, defaults fit the schedule', () => {
  expect(checkDiffusion({}, 1000)).toEqual({ samplingSteps: 100, guidance: 3, eta: 1 });
  expect(checkDiffusion({}, 20).samplingSteps).toBe(20);
  for (const [options, name] of [
    [{ samplingSteps: 1001 }, /samplingSteps/],
    [{ samplingSteps: 0 }, /samplingSteps/],
    [{ samplingSteps: 1.5 }, /samplingSteps/],
    [{ guidance: -1 }, /guidance/],
    [{ guidance: NaN }, /guidance/],
    [{ eta: 1.1 }, /eta/],
  ] as const) {
    const check = () => checkDiffusion(options, 1000);
    expect(check).toThrow(name);
    expect(check).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
  }
});
