import FFT from 'fft.js';

/** Samples a second of all speech here. */
export const SAMPLE_RATE = 16000;
/** Samples from one frame to the next: 10 ms. */
export const HOP = 160;
/** Samples of a frame: 25 ms, under a Hann window. */
export const WINDOW = 400;
/** Samples of its Fourier transform, and how many frequencies that gives. */
export const FFT_SIZE = 512;
export const BINS = FFT_SIZE / 2 + 1;

/** Hann window; divided by this sum, a sine of amplitude 1 has magnitude 1/2 in its bin. */
const HANN = Float64Array.from({ length: WINDOW }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 0.5)) / WINDOW));
const HANN_SUM = HANN.reduce((sum, value) => sum + value, 0);

/** Root mean square magnitude of each bin of white noise of power 1. */
export const MEAN_MAGNITUDE = Math.sqrt(HANN.reduce((sum, value) => sum + value * value, 0)) / HANN_SUM;

/** Short-time Fourier transform with 10 ms hops; frame f is centred on sample (f + 1/2) * HOP. */
export class Stft {
  readonly #fft = new FFT(FFT_SIZE);
  readonly #input = new Float64Array(FFT_SIZE);
  readonly #spectrum: number[] = this.#fft.createComplexArray();
  readonly #output: number[] = this.#fft.createComplexArray();

  /** Spectra [frames, BINS], real and imaginary parts; samples outside the sound are 0. */
  forward(samples: Float32Array | Float64Array, frames: number, re: Float64Array, im: Float64Array): void {
    for (let frame = 0; frame < frames; frame++) {
      const start = frameStart(frame);
      for (let i = 0; i < WINDOW; i++) this.#input[i] = (samples[start + i] ?? 0) * HANN[i]!;
      this.#fft.realTransform(this.#spectrum, this.#input);
      for (let bin = 0, at = frame * BINS; bin < BINS; bin++, at++) {
        re[at] = this.#spectrum[2 * bin]! / HANN_SUM;
        im[at] = this.#spectrum[2 * bin + 1]! / HANN_SUM;
      }
    }
  }

  /** The samples [frames * HOP] whose spectra are nearest to the given ones (weighted overlap and add). */
  inverse(re: Float64Array, im: Float64Array, frames: number, samples: Float64Array): void {
    const weight = new Float64Array(samples.length);
    samples.fill(0);
    for (let frame = 0; frame < frames; frame++) {
      for (let bin = 0, at = frame * BINS; bin < BINS; bin++, at++) {
        this.#spectrum[2 * bin] = re[at]! * HANN_SUM;
        this.#spectrum[2 * bin + 1] = im[at]! * HANN_SUM;
      }
      this.#fft.completeSpectrum(this.#spectrum);
      this.#fft.inverseTransform(this.#output, this.#spectrum);
      const start = frameStart(frame);
      const end = Math.min(WINDOW, samples.length - start);
      for (let i = Math.max(0, -start); i < end; i++) {
        samples[start + i]! += this.#output[2 * i]! * HANN[i]!;
        weight[start + i]! += HANN[i]! * HANN[i]!;
      }
    }
    // Hops are shorter than the window: the weights of all samples are far from 0.
    for (let i = 0; i < samples.length; i++) samples[i]! /= weight[i]!;
  }
}

function frameStart(frame: number): number {
  return frame * HOP + HOP / 2 - WINDOW / 2;
}
