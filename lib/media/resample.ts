import { MotError } from '../errors.js';

/** Zero crossings of the sinc on each side of its centre. */
const CROSSINGS = 24;

/**
 * Changes the sample rate by a windowed sinc; frequencies above the lower of the two Nyquist limits are removed.
 * `samples.length * to / from` samples, rounded up. Rates are positive integers (ERR_ARGUMENT otherwise).
 */
export function resample(samples: Float32Array, from: number, to: number): Float32Array {
  if (![from, to].every((rate) => Number.isInteger(rate) && rate > 0)) {
    throw new MotError('ERR_ARGUMENT', `sample rates are positive integers, got ${from} and ${to}`);
  }
  if (from === to) return samples;
  // Output i lies at input i * stride / phases: between two inputs there are only so many places, one filter for each.
  const divisor = greatestCommonDivisor(from, to);
  const stride = from / divisor;
  const phases = to / divisor;
  const cutoff = Math.min(1, to / from);
  const reach = Math.ceil(CROSSINGS / cutoff);
  const taps = 2 * reach;
  const filters: (Float64Array | undefined)[] = new Array<undefined>(phases);
  const out = new Float32Array(Math.ceil((samples.length * phases) / stride));
  for (let i = 0; i < out.length; i++) {
    const phase = (i * stride) % phases;
    const filter = (filters[phase] ??= makeFilter(phase / phases, reach, cutoff));
    const first = Math.floor((i * stride) / phases) - reach + 1;
    const begin = first < 0 ? -first : 0;
    const end = first + taps > samples.length ? samples.length - first : taps;
    let sum = 0;
    for (let tap = begin; tap < end; tap++) sum += samples[first + tap]! * filter[tap]!;
    out[i] = sum;
  }
  return out;
}

/** Weights of the 2 * reach inputs around a place that is `fraction` behind the input at tap reach - 1. */
function makeFilter(fraction: number, reach: number, cutoff: number): Float64Array {
  return Float64Array.from({ length: 2 * reach }, (_, tap) => {
    const distance = tap - reach + 1 - fraction;
    const window = 0.5 + 0.5 * Math.cos((Math.PI * distance) / reach);
    const x = Math.PI * cutoff * distance;
    return cutoff * window * (x === 0 ? 1 : Math.sin(x) / x);
  });
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
