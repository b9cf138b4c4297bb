/** Zero crossings of the sinc on each side of its centre. */
const CROSSINGS = 24;

/**
 * Changes the sample rate by a windowed sinc; frequencies above the lower of the two Nyquist limits are removed.
 * `samples.length * to / from` samples, rounded up.
 */
export function resample(samples: Float32Array, from: number, to: number): Float32Array {
  if (from === to) return samples;
  const step = from / to;
  const cutoff = Math.min(1, to / from);
  const reach = CROSSINGS / cutoff;
  const out = new Float32Array(Math.ceil(samples.length / step));
  for (let i = 0; i < out.length; i++) {
    const centre = i * step;
    const first = Math.max(0, Math.ceil(centre - reach));
    const last = Math.min(samples.length - 1, Math.floor(centre + reach));
    let sum = 0;
    for (let j = first; j <= last; j++) {
      const distance = j - centre;
      const window = 0.5 + 0.5 * Math.cos((Math.PI * distance) / reach);
      sum += samples[j]! * window * sinc(cutoff * distance);
    }
    out[i] = cutoff * sum;
  }
  return out;
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}
