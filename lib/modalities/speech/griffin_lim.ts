import { randomKey, randomUniform } from '../random.js';
import { BINS, HOP, Stft } from './stft.js';

/** Share of the last change that is added again (the fast variant of Perraudin et al. 2013). */
const MOMENTUM = 0.95;

/** Options of griffinLim(). */
export interface GriffinLimOptions {
  /** Default 40. */
  iterations?: number;
  /** Spectra [frames, BINS] whose phases are the first. Default: random phases, always the same. */
  start?: { re: Float64Array; im: Float64Array };
}

/**
 * A sound [frames * HOP] with about the given magnitudes [frames, BINS]: again and again the phases are those of the
 * sound that the last ones gave. Deterministic.
 */
export function griffinLim(magnitudes: Float64Array, frames: number, options: GriffinLimOptions = {}): Float32Array {
  const { iterations = 40, start } = options;
  const stft = new Stft();
  const samples = new Float64Array(frames * HOP);
  const re = new Float64Array(frames * BINS);
  const im = new Float64Array(frames * BINS);
  const lastRe = new Float64Array(frames * BINS);
  const lastIm = new Float64Array(frames * BINS);
  const key = randomKey(0, 'griffin-lim');
  for (let i = 0; i < magnitudes.length; i++) {
    const phase = start ? Math.atan2(start.im[i]!, start.re[i]!) : 2 * Math.PI * randomUniform(key, i);
    re[i] = magnitudes[i]! * Math.cos(phase);
    im[i] = magnitudes[i]! * Math.sin(phase);
  }
  stft.inverse(re, im, frames, samples);
  for (let iteration = 0; iteration < iterations; iteration++) {
    stft.forward(samples, frames, re, im);
    for (let i = 0; i < magnitudes.length; i++) {
      const a = iteration === 0 ? re[i]! : re[i]! + MOMENTUM * (re[i]! - lastRe[i]!);
      const b = iteration === 0 ? im[i]! : im[i]! + MOMENTUM * (im[i]! - lastIm[i]!);
      lastRe[i] = re[i]!;
      lastIm[i] = im[i]!;
      const scale = magnitudes[i]! / (Math.sqrt(a * a + b * b) + 1e-12);
      re[i] = a * scale;
      im[i] = b * scale;
    }
    stft.inverse(re, im, frames, samples);
  }
  return Float32Array.from(samples);
}
