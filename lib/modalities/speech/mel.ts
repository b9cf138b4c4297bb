import { BINS, FFT_SIZE, SAMPLE_RATE, Stft } from './stft.js';

/** Mel bands, evenly spaced on the mel scale from 0 to 8 kHz. */
export const MELS = 40;

/** Amplitude below which a band counts as silent: features are log(amplitude + FLOOR). */
const FLOOR = 3e-4;

/** Triangles [MELS, BINS]: band m rises from the centre of band m - 1 and falls to that of m + 1. */
const TRIANGLES = makeTriangles();

/** Bins [begin, end) that a band's triangle covers, and the sum of its weights. */
const BANDS = Array.from({ length: MELS }, (_, m) => {
  const row = TRIANGLES.subarray(m * BINS, (m + 1) * BINS);
  const begin = row.findIndex((weight) => weight > 0);
  const end = row.findLastIndex((weight) => weight > 0) + 1;
  return { begin, end, sum: row.reduce((sum, weight) => sum + weight, 0) };
});

/** Log-mel features [frames, MELS] of 16 kHz samples: the log of each band's mean amplitude. */
export function logMel(samples: Float32Array, frames: number): Float64Array {
  const re = new Float64Array(frames * BINS);
  const im = new Float64Array(frames * BINS);
  new Stft().forward(samples, frames, re, im);
  const features = new Float64Array(frames * MELS);
  const magnitude = new Float64Array(BINS);
  for (let frame = 0; frame < frames; frame++) {
    for (let bin = 0, at = frame * BINS; bin < BINS; bin++, at++) {
      magnitude[bin] = Math.sqrt(re[at]! * re[at]! + im[at]! * im[at]!);
    }
    BANDS.forEach(({ begin, end, sum }, m) => {
      let amplitude = 0;
      for (let bin = begin; bin < end; bin++) amplitude += TRIANGLES[m * BINS + bin]! * magnitude[bin]!;
      features[frame * MELS + m] = Math.log(amplitude / sum + FLOOR);
    });
  }
  return features;
}

/** Magnitudes [frames, BINS] of log-mel features: band amplitudes, interpolated between the centres of the bands. */
export function melMagnitudes(features: Float64Array, frames: number): Float64Array {
  const magnitudes = new Float64Array(frames * BINS);
  for (let frame = 0; frame < frames; frame++) {
    BANDS.forEach(({ begin, end }, m) => {
      const amplitude = Math.max(0, Math.exp(features[frame * MELS + m]!) - FLOOR);
      for (let bin = begin; bin < end; bin++) {
        magnitudes[frame * BINS + bin]! += amplitude * TRIANGLES[m * BINS + bin]!;
      }
    });
  }
  return magnitudes;
}

function makeTriangles(): Float64Array {
  const toMel = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700);
  const step = toMel(SAMPLE_RATE / 2) / (MELS + 1);
  const triangles = new Float64Array(MELS * BINS);
  for (let bin = 0; bin < BINS; bin++) {
    const place = toMel((bin * SAMPLE_RATE) / FFT_SIZE) / step - 1;
    for (let m = 0; m < MELS; m++) triangles[m * BINS + bin] = Math.max(0, 1 - Math.abs(place - m));
  }
  return triangles;
}
