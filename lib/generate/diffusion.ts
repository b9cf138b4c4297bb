import type { Prediction } from '../config/model_config.js';
import { MotError } from '../errors.js';

/** How an image is sampled. */
export interface DiffusionOptions {
  /** Timesteps visited, 1 up to those of the schedule. More: better pictures, and as much more time. Default 100. */
  samplingSteps?: number;
  /** Classifier-free guidance: 1 follows the caption as learnt, more exaggerates what it changes. Default 3. */
  guidance?: number;
  /** Fresh noise at every step: 1 is DDPM (ancestral sampling), 0 is DDIM, which draws none. Default 1. */
  eta?: number;
}

/** Options with every value filled in. */
export type ResolvedDiffusion = Required<DiffusionOptions>;

/**
 * Checks options and fills in their defaults.
 *
 * @param steps Timesteps of the schedule.
 * @throws MotError ERR_ARGUMENT naming the option.
 */
export function checkDiffusion(options: DiffusionOptions, steps: number): ResolvedDiffusion {
  const { samplingSteps = Math.min(100, steps), guidance = 3, eta = 1 } = options;
  if (!(Number.isInteger(samplingSteps) && samplingSteps >= 1 && samplingSteps <= steps))
    throw new MotError(
      'ERR_ARGUMENT',
      `samplingSteps must be a whole number from 1 to the ${steps} timesteps of the schedule, got ${samplingSteps}.`,
    );
  if (!(Number.isFinite(guidance) && guidance >= 0))
    throw new MotError('ERR_ARGUMENT', `guidance must be a number of at least 0 (1: none), got ${guidance}.`);
  if (!(eta >= 0 && eta <= 1))
    throw new MotError('ERR_ARGUMENT', `eta must be a number from 0 (DDIM) to 1 (DDPM), got ${eta}.`);
  return { samplingSteps, guidance, eta };
}

/**
 * Signal level of each timestep of the cosine schedule (Nichol and Dhariwal 2021), betas capped at 0.999: [steps],
 * falling. A clean value x at timestep t is seen as sqrt(a[t]) x + sqrt(1 - a[t]) noise.
 */
export function cosineSchedule(steps: number): Float64Array {
  const level = (u: number): number => Math.cos((((u + 0.008) / 1.008) * Math.PI) / 2) ** 2;
  let product = 1;
  return Float64Array.from({ length: steps }, (_, t) => {
    const beta = Math.min(1 - level((t + 1) / steps) / level(t / steps), 0.999);
    return (product *= 1 - beta);
  });
}

/** `count` timesteps to visit, evenly spaced and falling from the noisiest, steps - 1. */
export function samplingTimesteps(steps: number, count: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => Math.floor(((count - i) * steps) / count) - 1);
}

/** What is left to do of a step: noise or velocity predicted, now remove the noise. */
export interface DenoiseStep {
  /** Signal levels now and after the step; 1: clean. */
  from: number;
  to: number;
  eta: number;
  /** What was predicted. Default `noise`. */
  prediction?: Prediction;
  /** Bounds of clean values; estimates beyond are taken back. */
  range?: readonly [low: number, high: number];
}

/**
 * One step of DDIM (Song et al. 2021), of which DDPM's is the case eta = 1: estimates the clean values from the noisy
 * `x` and what was predicted of it, and noises them to the next level, in place.
 *
 * @param fresh Standard normal draws, of the length of x; not read where eta is 0 or the step ends clean.
 */
export function denoise(
  x: Float32Array,
  predicted: ArrayLike<number>,
  fresh: ArrayLike<number>,
  { from, to, eta, prediction = 'noise', range }: DenoiseStep,
): void {
  const signal = Math.sqrt(from);
  const noise = Math.sqrt(1 - from);
  const sigma = eta * Math.sqrt(((1 - to) / (1 - from)) * (1 - from / to));
  const direction = Math.sqrt(Math.max(0, 1 - to - sigma * sigma));
  const target = Math.sqrt(to);
  for (let i = 0; i < x.length; i++) {
    const p = predicted[i]!;
    let eps = prediction === 'noise' ? p : signal * p + noise * x[i]!;
    let clean = prediction === 'noise' ? (x[i]! - noise * p) / signal : signal * x[i]! - noise * p;
    if (range !== undefined && (clean < range[0] || clean > range[1])) {
      clean = clean < range[0] ? range[0] : range[1];
      eps = (x[i]! - signal * clean) / noise;
    }
    x[i] = target * clean + direction * eps + (sigma > 0 ? sigma * fresh[i]! : 0);
  }
}

/** Classifier-free guidance: from the prediction without a caption towards, and past, the one with it; into `predicted`. */
export function guide(predicted: Float32Array, unconditional: ArrayLike<number>, guidance: number): void {
  for (let i = 0; i < predicted.length; i++)
    predicted[i] = unconditional[i]! + guidance * (predicted[i]! - unconditional[i]!);
}
