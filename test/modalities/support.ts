import { randomKey, randomUniform } from '../../lib/modalities/random.js';
import type { Picture, Sound } from '../../lib/modalities/tokenizer.js';

/** Numbers in [0, 1), one after the other. */
export function stream(seed: number): () => number {
  const key = randomKey(seed, 'test');
  let index = 0;
  return () => randomUniform(key, index++);
}

/** A disc with a shaded face on a plain or graded background: edges, flat parts and gradients, as in emoji. */
export function makePicture(seed: number, size = 32): Picture {
  const next = stream(seed);
  const colour = (): number[] => [0, 1, 2].map(() => Math.floor(256 * next()));
  const [background, far, face, rim] = [colour(), colour(), colour(), colour()];
  const graded = next() < 0.5;
  const [cx, cy] = [0.3 + 0.4 * next(), 0.3 + 0.4 * next()];
  const radius = 0.15 + 0.25 * next();
  const data = new Uint8Array(size * size * 3);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const distance = Math.hypot(x / size - cx, y / size - cy) / radius;
      const shade = graded ? y / size : 0;
      for (let c = 0; c < 3; c++) {
        const ground = background![c]! * (1 - shade) + far![c]! * shade;
        const disc = face![c]! * (1 - distance ** 2) + rim![c]! * distance ** 2;
        const cover = Math.min(1, Math.max(0, (1 - distance) * radius * size + 0.5));
        data[(y * size + x) * 3 + c] = Math.round(cover * disc + (1 - cover) * ground);
      }
    }
  }
  return { width: size, height: size, data };
}

/** Peak signal-to-noise ratio of pictures against originals, dB, over all of them together. */
export function psnr(originals: readonly Picture[], copies: readonly Picture[]): number {
  let squares = 0;
  let count = 0;
  originals.forEach(({ data }, k) => {
    for (let i = 0; i < data.length; i++) squares += (data[i]! - copies[k]!.data[i]!) ** 2;
    count += data.length;
  });
  return 10 * Math.log10((255 * 255 * count) / squares);
}

/** Vowels: formants (Hz) of a, e, i, o, u. */
const VOWELS = [
  [730, 1090, 2440],
  [530, 1840, 2480],
  [270, 2290, 3010],
  [570, 840, 2410],
  [300, 870, 2240],
];

/** A few vowels, each of 80 to 240 ms, by pulses at 100 to 140 Hz through three resonances. */
export function makeSpeech(seed: number, sampleRate = 16000): Sound {
  const next = stream(seed);
  const parts: number[] = [];
  for (let vowel = 0; vowel < 6; vowel++) {
    const formants = VOWELS[Math.floor(VOWELS.length * next())]!;
    const pitch = 100 + 40 * next();
    const length = Math.floor((0.08 + 0.16 * next()) * sampleRate);
    const amplitudes = Array.from({ length: Math.floor(4000 / pitch) }, (_, i) =>
      formants.reduce((sum, f) => sum + 0.08 / (1 + (((i + 1) * pitch - f) / 90) ** 2), 0),
    );
    for (let i = 0; i < length; i++) {
      const phase = (2 * Math.PI * pitch * i) / sampleRate;
      parts.push(amplitudes.reduce((sum, amplitude, k) => sum + amplitude * Math.sin((k + 1) * phase + k * k), 0));
    }
  }
  return { sampleRate, samples: Float32Array.from(parts) };
}
