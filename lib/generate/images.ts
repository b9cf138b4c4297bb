import type { ImageMask } from '../data/packer.js';
import { MotError } from '../errors.js';
import type { Document } from '../model/batch.js';
import type { Model } from '../model/model.js';
import { randomNormals, type RandomKey } from '../modalities/random.js';
import type { ContinuousModality } from '../modalities/vocabulary.js';
import { cacheBatch, prefill, type CacheCall, type CachedSequence, type Piece } from './cache.js';
import {
  checkDiffusion,
  cosineSchedule,
  denoise,
  guide,
  samplingTimesteps,
  type DiffusionOptions,
} from './diffusion.js';

/** How images of a continuous modality are generated. */
export interface ImageGeneration extends DiffusionOptions {
  /** Its tokens and the width of its patches. */
  modality: ContinuousModality;
  /** Patches of an image. */
  patches: number;
  /** What patches see of their image; as the model was trained. Default `bidirectional`. */
  imageMask?: ImageMask;
  /** Bounds of clean values, such as the codec's `range`. Default: none. */
  range?: readonly [low: number, high: number];
}

/** An image to draw, behind what its sequence has in the cache: its begin token is the last. */
export interface ImageRequest {
  sequence: CachedSequence;
  /** Slots for a second sequence, without what stands before the image; only with guidance. */
  unconditional: CachedSequence;
  /** First token of the document, `<bos>`. */
  first: number;
  /** Keys of its noise: of the sequence, and the image's number in it. */
  random: RandomKey;
  ordinal: number;
}

/** Slots that a sequence needs for guidance: `<bos>`, the begin token and the patches of an image without a caption. */
export function guidanceSlots({ guidance = 3, patches }: Pick<ImageGeneration, 'guidance' | 'patches'>): number {
  return guidance === 1 ? 0 : patches + 2;
}

/**
 * Draws images side by side, as many at a time as one call takes. At every step of the diffusion the model sees the noisy
 * patches of all images, each behind its own sequence, whose cache stays as it is; the patches' slots are written anew.
 *
 * @returns The clean latents [patches * width] of each.
 * @throws MotError ERR_ARGUMENT for options out of range, ERR_LIMIT when one image is more than a call takes.
 */
export async function drawImages(
  model: Model,
  requests: readonly ImageRequest[],
  options: ImageGeneration,
  call: CacheCall = {},
): Promise<Float32Array[]> {
  const { patches } = options;
  const { guidance } = checkImages(model, options);
  const copies = guidance === 1 ? 1 : 2;
  const atOnce = Math.floor(model.limits.tokens / (copies * patches));
  if (atOnce === 0)
    throw new MotError(
      'ERR_LIMIT',
      `drawing an image of ${patches} patches${copies === 2 ? ' with guidance' : ''} takes ${copies * patches} tokens a call; create the model with as many (${model.limits.tokens}).`,
    );
  const images: Float32Array[] = [];
  for (let begin = 0; begin < requests.length; begin += atOnce)
    images.push(...(await drawTogether(model, requests.slice(begin, begin + atOnce), options, call)));
  return images;
}

/** Checks the options against the model; MotError ERR_ARGUMENT. */
export function checkImages(model: Model, options: ImageGeneration): Required<DiffusionOptions> {
  const { diffusion } = model.config;
  if (diffusion === undefined)
    throw new MotError('ERR_ARGUMENT', 'the model has no diffusion and cannot draw images; leave `images` out.');
  if (diffusion.patch_dim !== options.modality.patchDim)
    throw new MotError(
      'ERR_ARGUMENT',
      `patches are ${options.modality.patchDim} numbers wide, those of the model ${diffusion.patch_dim}; use the data set that it was trained on.`,
    );
  return checkDiffusion(options, diffusion.steps);
}

async function drawTogether(
  model: Model,
  requests: readonly ImageRequest[],
  options: ImageGeneration,
  call: CacheCall,
): Promise<Float32Array[]> {
  const { modality, patches, imageMask, range } = options;
  const { samplingSteps, guidance, eta } = checkImages(model, options);
  const { steps, prediction } = model.config.diffusion!;
  const schedule = cosineSchedule(steps);
  const timesteps = samplingTimesteps(steps, samplingSteps);
  const numbers = patches * modality.patchDim;
  const guided = guidance !== 1;
  if (guided)
    for (const { unconditional, first } of requests) {
      unconditional.length = 0;
      await prefill(model, unconditional, { token: [first, modality.begin], modality: [0, 0] }, call);
    }

  const images = requests.map(({ random, ordinal }) => {
    const x = new Float32Array(numbers);
    randomNormals(random, [ordinal, 0], x);
    return x;
  });
  const fresh = new Float32Array(numbers);
  for (const [i, t] of timesteps.entries()) {
    const pieces = requests.flatMap(({ sequence, unconditional }, r): Piece[] => {
      const document = imageDocument(images[r]!, t, options);
      return [{ sequence, document }, ...(guided ? [{ sequence: unconditional, document }] : [])];
    });
    const batch = cacheBatch(pieces, imageMask);
    const rows = Int32Array.from(batch.token, (_, row) => row);
    const output = await model.decode(batch, rows, { ...call, output: 'patches' });
    const next = timesteps[i + 1];
    const to = next === undefined ? 1 : schedule[next]!;
    const step = { from: schedule[t]!, to, eta, prediction, ...(range ? { range } : {}) };
    requests.forEach(({ random, ordinal }, r) => {
      const at = (copy: number): Float32Array => output.subarray(copy * numbers, (copy + 1) * numbers);
      const predicted = at(guided ? 2 * r : r);
      if (guided) guide(predicted, at(2 * r + 1), guidance);
      if (eta > 0) randomNormals(random, [ordinal, i + 1], fresh);
      denoise(images[r]!, predicted, fresh, step);
    });
  }
  return images;
}

/** The patches of an image as they stand in a sequence. */
export function imageDocument(latent: Float32Array, t: number, { modality, patches }: ImageGeneration): Document {
  return {
    token: new Int32Array(patches).fill(modality.token),
    modality: new Int32Array(patches).fill(modality.index),
    latent,
    patchRow: Int32Array.from({ length: patches }, (_, row) => row),
    timestep: Int32Array.of(t),
  };
}
