import { MotError } from '../errors.js';
import type { Document } from '../model/batch.js';
import { randomBits, randomKey, randomNormals, randomUniform, type RandomKey } from '../modalities/random.js';
import { continuousModality, type Vocabulary } from '../modalities/vocabulary.js';
import { imageSpans } from './latents.js';
import type { DocumentTransform } from './loader.js';

/** How images are noised for training. */
export interface NoiseOptions {
  /** Timesteps of the schedule: draws are 0 <= t < steps. */
  steps: number;
  /** What every draw follows from. Default 0. */
  seed?: number;
  /** Largest timestep of an image with no text before it, so that what describes it sees it well. Default: steps - 1. */
  maxTimestepImageFirst?: number;
  /** Share of documents with text before their first image that lose that text, for classifier-free guidance. Default 0.1. */
  captionDropout?: number;
}

/** 2^32 divided by the golden ratio: its multiples fill the 32-bit circle evenly, however many there are. */
const GOLDEN = 0x9e3779b9;

/**
 * Noises the images of training documents: each image gets a timestep, uniform over the schedule, and normal noise. Some
 * captions are dropped first: what stands between `<bos>` and the token that begins the first image is left out, so the
 * model also learns images without a caption.
 *
 * Draws follow from the seed, the document's index, the epoch and the element alone: the same after every resume and for
 * any number of workers.
 *
 * @throws MotError ERR_ARGUMENT for options out of range.
 */
export function trainingNoise(vocabulary: Vocabulary, options: NoiseOptions): DocumentTransform {
  const { steps, seed = 0, maxTimestepImageFirst = steps - 1, captionDropout = 0.1 } = options;
  checkTimestep('maxTimestepImageFirst', maxTimestepImageFirst, steps);
  if (!(captionDropout >= 0 && captionDropout <= 1))
    throw new MotError('ERR_ARGUMENT', `captionDropout is a share from 0 to 1, got ${captionDropout}`);
  const keys = noiseKeys(seed, 'train');
  return (document, index, epoch) => {
    if (document.latent === undefined || document.latent.length === 0) return document;
    const draw = (use: number): number => randomUniform(keys.choice, index, epoch, use);
    const first = firstImage(document, vocabulary);
    const kept = first > 1 && draw(0) < captionDropout ? withoutCaption(document, vocabulary) : document;
    return addNoise(kept, keys.noise, index, epoch, (image) => {
      const capped = image === 0 && first <= 1;
      return Math.floor(draw(1 + image) * (capped ? maxTimestepImageFirst + 1 : steps));
    });
  };
}

/**
 * Noises the images of documents that a model is judged on: always the same noise, and timesteps spread evenly over the
 * schedule, so that losses of different steps and models compare. Nothing is dropped.
 */
export function validationNoise({ steps, seed = 0 }: Pick<NoiseOptions, 'steps' | 'seed'>): DocumentTransform {
  checkTimestep('steps - 1', steps - 1, steps);
  const keys = noiseKeys(seed, 'validation');
  const shift = randomBits(keys.choice, 0);
  return (document, index) =>
    addNoise(document, keys.noise, index, 0, (image) => {
      const point = (Math.imul(GOLDEN, index + image) + shift) >>> 0;
      return Math.floor((point / 2 ** 32) * steps);
    });
}

function checkTimestep(name: string, value: number, steps: number): void {
  if (!(Number.isInteger(steps) && steps >= 1))
    throw new MotError('ERR_ARGUMENT', `a noise schedule has a whole number of steps, at least 1, got ${steps}`);
  if (!(Number.isInteger(value) && value >= 0 && value < steps))
    throw new MotError('ERR_ARGUMENT', `${name} is a timestep from 0 to ${steps - 1}, got ${value}`);
}

function noiseKeys(seed: number, use: string): { choice: RandomKey; noise: RandomKey } {
  return { choice: randomKey(seed, `diffusion.${use}.choice`), noise: randomKey(seed, `diffusion.${use}.noise`) };
}

/** The document with noise and timesteps; without latents it is returned as it is. */
function addNoise(
  document: Document,
  key: RandomKey,
  index: number,
  epoch: number,
  timestepOf: (image: number) => number,
): Document {
  const { latent, patchRow } = document;
  if (latent === undefined || patchRow === undefined || latent.length === 0) return document;
  const noise = new Float32Array(latent.length);
  randomNormals(key, [index, epoch], noise);
  const timestep = Int32Array.from(imageSpans(patchRow), (_, image) => timestepOf(image));
  return { ...document, noise, timestep };
}

/** Place of the token that begins the first image, -1: there is none. */
function firstImage({ token }: Document, vocabulary: Vocabulary): number {
  const begin = continuousModality(vocabulary)?.begin;
  return begin === undefined ? -1 : Array.prototype.indexOf.call(token, begin);
}

/** The document without what stands between `<bos>` and its first image. */
export function withoutCaption(document: Document, vocabulary: Vocabulary): Document {
  const first = firstImage(document, vocabulary);
  return first > 1 ? withoutPlaces(document, 1, first) : document;
}

/** The document without places [begin, end), which hold no patches. */
function withoutPlaces(document: Document, begin: number, end: number): Document {
  const cut = (values: ArrayLike<number>): Int32Array => {
    const all = Int32Array.from(values);
    const kept = new Int32Array(all.length - (end - begin));
    kept.set(all.subarray(0, begin));
    kept.set(all.subarray(end), begin);
    return kept;
  };
  const patchRow = cut(document.patchRow!);
  return { ...document, token: cut(document.token), modality: cut(document.modality), patchRow };
}
