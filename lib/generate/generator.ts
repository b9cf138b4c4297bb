import type { Model } from '../model/model.js';
import type { Segment, Tokenizers } from '../modalities/registry.js';
import type { Picture } from '../modalities/tokenizer.js';
import type { Vocabulary } from '../modalities/vocabulary.js';
import type { SamplingOptions } from './sampler.js';
import type { Codecs } from '../modalities/codec.js';
import type { DiffusionOptions } from './diffusion.js';
import { guidanceSlots, type ImageGeneration } from './images.js';
import { generateSpan, generateSpanIds, type SpanOptions } from './spans.js';

/** Longest caption and longest speech that are generated, in tokens. */
const CAPTION_TOKENS = 40;
const SPEECH_TOKENS = 160;

// Pictures want some variety; captions and speech want the likeliest.
const PICTURE: SamplingOptions = { temperature: 0.8, topP: 0.95 };
const CAPTION: SamplingOptions = { temperature: 0 };
const SPEECH: SamplingOptions = { temperature: 0.3 };

// Continuous pictures: half the steps of a single picture's default look nearly as good.
const DIFFUSION: DiffusionOptions = { samplingSteps: 50 };

/** Called with the index of each result as it is finished. */
export type OnDone = (index: number) => void;

/** What reports and evaluations ask of a model, one result an input. */
export interface Generator {
  /** A picture of each caption. */
  draw(captions: readonly string[], onDone?: OnDone): Promise<Picture[]>;
  /** A caption of each picture. */
  name(pictures: readonly Picture[], onDone?: OnDone): Promise<string[]>;
  /** Each caption spoken, as ids of the speech tokenizer. */
  speak(captions: readonly string[], onDone?: OnDone): Promise<number[][]>;
}

/** Options of {@link makeGenerator}. */
export interface GeneratorOptions {
  /** Of the draws. Default 0. */
  seed?: number;
  /** Of continuous modalities, and how their images are drawn; both as in an OpenedRun. Default: all are discrete. */
  codecs?: Codecs;
  images?: ImageGeneration | undefined;
  signal?: AbortSignal;
}

/** The generator of a model: pictures are tokens, or drawn by diffusion; reports and evaluations need not know. */
export function makeGenerator(
  model: Model,
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
  { seed = 0, codecs = {}, images, signal }: GeneratorOptions = {},
): Generator {
  const span = (sampling: SamplingOptions, maxTokens: number, onDone?: OnDone): SpanOptions => ({
    ...sampling,
    maxTokens,
    seed,
    codecs,
    ...(images ? { images: { ...DIFFUSION, ...images } } : {}),
    ...(signal ? { signal } : {}),
    ...(onDone ? { onSpan: onDone } : {}),
  });
  const texts = (captions: readonly string[]): Segment[][] => captions.map((text) => [{ text }]);
  return {
    async draw(captions, onDone) {
      const options = span(PICTURE, pictureTokens(tokenizers, images), onDone);
      return (await generateSpan(model, texts(captions), 'image', tokenizers, vocabulary, options)) as Picture[];
    },
    async name(pictures, onDone) {
      const prompts = pictures.map((image): Segment[] => [{ image }]);
      const options = span(CAPTION, CAPTION_TOKENS, onDone);
      const captions = await generateSpan(model, prompts, 'text', tokenizers, vocabulary, options);
      return captions.map((caption) => (caption as string).trim());
    },
    speak(captions, onDone) {
      const options = span(SPEECH, SPEECH_TOKENS, onDone);
      return generateSpanIds(model, texts(captions), 'speech', tokenizers, vocabulary, options);
    },
  };
}

/** Slots of the KV cache with which a generator works on so many sequences side by side. */
export function generatorSlots(
  tokenizers: Tokenizers,
  longestDocument: number,
  sequences: number,
  images?: ImageGeneration,
): number {
  const span = Math.max(CAPTION_TOKENS, SPEECH_TOKENS, pictureTokens(tokenizers, images));
  return sequences * (longestDocument + span + (images ? guidanceSlots(images) : 0));
}

/** Tokens of a picture, its end token included; 1 where there are no pictures. */
function pictureTokens({ image }: Tokenizers, images: ImageGeneration | undefined): number {
  let length = images?.patches ?? 0;
  while (image && length < 4096 && !image.rule(length).mayEnd) length++;
  return length + 1;
}
