import { randomKey, randomUniform } from '../random.js';
import { griffinLim } from './griffin_lim.js';
import { BINS, HOP, MEAN_MAGNITUDE, SAMPLE_RATE, Stft } from './stft.js';

/** Range of the pitch of voices, Hz. */
const LOWEST = 70;
const HIGHEST = 400;
/** Correlation of a voiced sound with itself one period later. */
const VOICED = 0.6;
/** Pitch is looked for at half the sample rate, in stretches of 30 ms. */
const HALF_RATE = SAMPLE_RATE / 2;
const STRETCH = 0.03 * HALF_RATE;
/** Noise in voiced sound, of its amplitude. */
const BREATH = 0.1;

/** Pitch in Hz at every `step` samples of a 16 kHz sound (in the middle of each step), 0 where it is not voiced. */
export function pitches(samples: Float32Array, count: number, step: number): Float64Array {
  const half = Float64Array.from(
    { length: samples.length >> 1 },
    (_, i) => (samples[2 * i]! + samples[2 * i + 1]!) / 2,
  );
  const shortest = Math.floor(HALF_RATE / HIGHEST);
  const longest = Math.ceil(HALF_RATE / LOWEST);
  const correlations = new Float64Array(longest + 1);
  return Float64Array.from({ length: count }, (_, i) => {
    const centre = Math.floor(((i + 0.5) * step) / 2);
    let best = 0;
    for (let lag = shortest; lag <= longest; lag++) {
      correlations[lag] = correlation(half, centre - ((STRETCH + lag) >> 1), lag);
      best = Math.max(best, correlations[lag]!);
    }
    if (best < VOICED) return 0;
    // Multiples of the period correlate as well: the first peak that is about as high is the period.
    let lag = shortest + 1;
    while (lag < longest && !(correlations[lag]! >= 0.9 * best && correlations[lag]! >= correlations[lag + 1]!)) lag++;
    return HALF_RATE / lag;
  });
}

/** Correlation of samples [start, start + STRETCH) with those `lag` later; 0 at the edges and in silence. */
function correlation(samples: Float64Array, start: number, lag: number): number {
  if (start < 0 || start + STRETCH + lag > samples.length) return 0;
  let [product, left, right] = [0, 1e-6, 1e-6];
  for (let i = start; i < start + STRETCH; i++) {
    const a = samples[i]!;
    const b = samples[i + lag]!;
    product += a * b;
    left += a * a;
    right += b * b;
  }
  return product / Math.sqrt(left * right);
}

/**
 * What a voice is made of before the mouth shapes it: pulses at the pitch of each 10 ms frame, noise where that is 0.
 * Mean power 1.
 */
export function excitation(pitch: Float64Array): Float32Array {
  const key = randomKey(0, 'excitation');
  const samples = new Float32Array(pitch.length * HOP);
  let phase = 0;
  for (let i = 0; i < samples.length; i++) {
    const hertz = pitch[Math.floor(i / HOP)]!;
    // Uniform noise of power 1.
    const noise = (randomUniform(key, i) - 0.5) * Math.sqrt(12);
    samples[i] = hertz > 0 ? BREATH * noise : noise;
    phase += hertz / SAMPLE_RATE;
    if (phase >= 1) {
      phase -= 1;
      samples[i]! += Math.sqrt(SAMPLE_RATE / hertz);
    }
  }
  return samples;
}

/** The mean of voiced frames within 50 ms, for voiced frames: pitch glides. */
export function smoothPitch(pitch: Float64Array): Float64Array {
  return pitch.map((hertz, frame) => {
    if (hertz === 0) return 0;
    let sum = 0;
    let count = 0;
    for (const other of pitch.subarray(Math.max(0, frame - 5), frame + 6)) {
      sum += other;
      if (other > 0) count++;
    }
    return sum / count;
  });
}

/**
 * A sound of the given magnitudes [frames, BINS] and pitch [frames]: the excitation takes on the magnitudes, which are
 * too coarse to hold the pitch; Griffin-Lim then makes its frames agree. Deterministic.
 */
export function synthesize(magnitudes: Float64Array, pitch: Float64Array): Float32Array {
  const frames = pitch.length;
  const re = new Float64Array(frames * BINS);
  const im = new Float64Array(frames * BINS);
  new Stft().forward(excitation(pitch), frames, re, im);
  const voiced = magnitudes.map((magnitude, i) => (magnitude / MEAN_MAGNITUDE) * Math.hypot(re[i]!, im[i]!));
  return griffinLim(voiced, frames, { start: { re, im } });
}
