import { MotError } from '../errors.js';
import type { Document } from '../model/batch.js';
import type { Model, WeightKind } from '../model/model.js';
import { randomKey, randomUniform, type RandomKey } from '../modalities/random.js';
import { cacheBatch, prefill, type CacheCall, type CachedSequence } from './cache.js';
import { checkImages, drawImages, guidanceSlots, imageDocument, type ImageGeneration } from './images.js';
import { checkSampling, sampleToken, type IdRange, type SamplingOptions } from './sampler.js';

/** What may follow the tokens of a sequence, or that it is finished. */
export type NextTokens = { allowed: readonly IdRange[] } | { stop: true };

export interface GenerateOptions extends SamplingOptions {
  /** Most tokens to add to each prompt. */
  maxTokens: number;
  /** Index of the modality of a token id. Default: modality 0 for every token. */
  modalityOf?: (token: number) => number;
  /** Which tokens may follow, given those generated so far. Default: any token of the vocabulary. */
  next?: (generated: readonly number[], sequence: number) => NextTokens;
  /** Tokens that end a sequence; they are part of the result. Default: none. */
  stopTokens?: readonly number[];
  /** Sequence s draws from (seed, s). Default 0. */
  seed?: number;
  /** Called with every token as it is drawn; not for patches and the token that ends an image, which follow by themselves. */
  onToken?: (token: number, sequence: number) => void;
  /**
   * How images of a model with diffusion are drawn: one comes where the token that begins an image was drawn or ends the
   * prompt, then its end token, then tokens again. An image that maxTokens has no room for ends the sequence. Default: no
   * images.
   */
  images?: ImageGeneration;
  /** Called with the latents [patches * width] of every image. */
  onImage?: (latent: Float32Array, sequence: number) => void;
  /** Default `raw`; `ema`: the average of the weights, of a model created with `ema`. */
  weights?: WeightKind;
  signal?: AbortSignal;
}

/** One sequence in the making. */
interface Sequence extends CachedSequence {
  index: number;
  prompt: Document;
  generated: number[];
  random: RandomKey;
  /** Slots for guidance; and images drawn so far. */
  unconditional: CachedSequence;
  images: number;
  noise: RandomKey;
}

/** A sequence, and its last token: already in the cache, or next to come there. */
type Active = [sequence: Sequence, token: number];

/**
 * Continues prompts with a KV cache, all of them side by side in batches of what the cache holds. The model must have been
 * created with `kv_slots` of at least the longest prompt + maxTokens, and as many `positions`; guided images take slots for
 * their patches and 2 more.
 *
 * @returns The new tokens of each prompt; for an image, its placeholder tokens.
 * @throws MotError ERR_ARGUMENT, ERR_LIMIT, ERR_ABORTED.
 * @example
 * const [tokens] = await generate(model, [{ token: [0, 5, 7], modality: [0, 0, 0] }], { maxTokens: 20, topK: 50 });
 */
export async function generate(
  model: Model,
  prompts: readonly Document[],
  options: GenerateOptions,
): Promise<number[][]> {
  const { maxTokens, images } = options;
  checkSampling(options);
  if (images) checkImages(model, images);
  if (!(Number.isInteger(maxTokens) && maxTokens >= 0))
    throw new MotError('ERR_ARGUMENT', `maxTokens must be a whole number of at least 0, got ${maxTokens}.`);
  const longest = prompts.reduce((most, prompt) => Math.max(most, prompt.token.length), 0);
  if (prompts.some((prompt) => prompt.token.length === 0))
    throw new MotError('ERR_ARGUMENT', 'a prompt needs at least one token; begin a document with its <bos> token.');
  const room = longest + maxTokens;
  const { kv_slots: slots, positions, tokens } = model.limits;
  const each = room + (images ? guidanceSlots(images) : 0);
  if (each > slots || room > positions)
    throw new MotError(
      'ERR_LIMIT',
      `a prompt of ${longest} tokens and ${maxTokens} new ones need kv_slots of at least ${each} and positions of ${room}; ` +
        `the model was created with kv_slots ${slots} and positions ${positions}.`,
    );
  if (room === 0) return prompts.map(() => []);
  const atOnce = Math.min(Math.floor(slots / each), tokens);
  const results: number[][] = [];
  for (let first = 0; first < prompts.length; first += atOnce) {
    const group = prompts.slice(first, first + atOnce);
    results.push(...(await generateGroup(model, group, first, { room, each }, options)));
  }
  return results;
}

async function generateGroup(
  model: Model,
  prompts: readonly Document[],
  first: number,
  slots: { room: number; each: number },
  options: GenerateOptions,
): Promise<number[][]> {
  const { modalityOf = () => 0, maxTokens, seed = 0, stopTokens = [], images, weights, signal } = options;
  const next = options.next ?? (() => ({ allowed: [[0, model.config.vocab]] as const }));
  const sampling = checkSampling(options);
  const stop = new Set(stopTokens);
  const call: CacheCall = { ...(weights ? { weights } : {}), ...(signal ? { signal } : {}) };
  const { vocab } = model.config;
  const sequences = prompts.map((prompt, s): Sequence => ({
    index: first + s,
    prompt,
    slot: s * slots.each,
    length: 0,
    generated: [],
    random: randomKey(seed, `generate/${first + s}`),
    unconditional: { slot: s * slots.each + slots.room, length: 0 },
    images: 0,
    noise: randomKey(seed, `generate/${first + s}/noise`),
  }));

  // Draws the next token of each sequence from its row of logits; gives those that go on, with their new tokens.
  const draw = (active: readonly Sequence[], logits: readonly Float32Array[]): Active[] => {
    const goingOn: Active[] = [];
    active.forEach((sequence, row) => {
      const choice = next(sequence.generated, sequence.index);
      if ('stop' in choice) return;
      const uniform = randomUniform(sequence.random, sequence.generated.length);
      const token = sampleToken(logits[row]!, choice.allowed, sampling, uniform);
      sequence.generated.push(token);
      options.onToken?.(token, sequence.index);
      if (!stop.has(token) && sequence.generated.length < maxTokens) goingOn.push([sequence, token]);
    });
    return goingOn;
  };

  // Draws the images that begin; gives the sequences that go on after theirs, with the token that ends it.
  const drawImagesOf = async (active: readonly Sequence[], how: ImageGeneration): Promise<Active[]> => {
    const { patches, imageMask, modality } = how;
    const fitting = active.filter(({ generated }) => generated.length + patches <= maxTokens);
    const requests = fitting.map((sequence) => ({
      sequence,
      unconditional: sequence.unconditional,
      first: sequence.prompt.token[0]!,
      random: sequence.noise,
      ordinal: sequence.images++,
    }));
    const latents = await drawImages(model, requests, how, call);
    const goingOn: Active[] = [];
    for (const [i, sequence] of fitting.entries()) {
      const document = imageDocument(latents[i]!, 0, how);
      sequence.generated.push(...Array.from(document.token));
      options.onImage?.(latents[i]!, sequence.index);
      if (sequence.generated.length === maxTokens) continue;
      sequence.generated.push(modality.end);
      if (stop.has(modality.end) || sequence.generated.length === maxTokens) continue;
      // What comes now sees the clean image.
      await prefill(model, sequence, document, { imageMask, ...call });
      goingOn.push([sequence, modality.end]);
    }
    return goingOn;
  };

  // From tokens that are in the cache, and the logits after them, to the tokens that come next.
  const advance = async (active: readonly Active[], logits: readonly Float32Array[]): Promise<Active[]> => {
    const begins = ([, token]: Active): boolean => token === images?.modality.begin;
    const goingOn = draw(
      active.filter((entry) => !begins(entry)).map(([sequence]) => sequence),
      logits.filter((_, i) => !begins(active[i]!)),
    );
    const beginning = active.filter(begins).map(([sequence]) => sequence);
    if (images && beginning.length > 0) goingOn.push(...(await drawImagesOf(beginning, images)));
    return goingOn.sort(([a], [b]) => a.slot - b.slot);
  };

  if (maxTokens === 0) return prompts.map(() => []);
  // Prefill one prompt at a time.
  const prefilled: Float32Array[] = [];
  for (const sequence of sequences)
    prefilled.push(await prefill(model, sequence, sequence.prompt, { imageMask: images?.imageMask, ...call }));
  let active = await advance(
    sequences.map((sequence): Active => [sequence, sequence.prompt.token[sequence.prompt.token.length - 1]!]),
    prefilled,
  );
  // Decode one token of every unfinished sequence a call.
  while (active.length > 0) {
    const pieces = active.map(([sequence, token]) => ({
      sequence,
      document: { token: [token], modality: [modalityOf(token)] },
    }));
    const rows = Int32Array.from(active, (_, i) => i);
    const logits = await model.decode(cacheBatch(pieces), rows, call);
    for (const [sequence] of active) sequence.length++;
    active = await advance(
      active,
      active.map((_, row) => logits.subarray(row * vocab, (row + 1) * vocab)),
    );
  }
  return sequences.map(({ generated }) => generated);
}
