import path from 'node:path';
import type { DatasetManifest } from '../data/dataset.js';
import { generateSpan, type SpanOptions } from '../generate/spans.js';
import { SafetensorsFile } from '../io/safetensors.js';
import type { Model } from '../model/model.js';
import type { Segment, Tokenizers } from '../modalities/registry.js';
import type { Picture, Sound } from '../modalities/tokenizer.js';
import type { ReportSample } from './data.js';

/** Longest caption and longest speech that a report generates, in tokens. */
const CAPTION_TOKENS = 40;
const SPEECH_TOKENS = 160;

export interface SampleOptions {
  /** Concepts shown: at most so many that training never saw, and so many that it did. */
  heldout: number;
  known: number;
  seed: number;
  signal?: AbortSignal;
}

/** Slots of the KV cache that {@link makeSamples} uses well: a few sequences side by side. */
export function sampleSlots(tokenizers: Tokenizers, longestDocument: number): number {
  return 8 * (longestDocument + spanTokens(tokenizers));
}

/** Tokens of the longest span that is generated. */
function spanTokens(tokenizers: Tokenizers): number {
  let picture = 0;
  while (picture < 4096 && !tokenizers['image']!.rule(picture).mayEnd) picture++;
  return Math.max(CAPTION_TOKENS, SPEECH_TOKENS, picture + 1);
}

/** Reads the data set's example concepts and lets the model draw, name and speak them. */
export async function makeSamples(
  model: Model,
  folder: string,
  manifest: DatasetManifest,
  tokenizers: Tokenizers,
  options: SampleOptions,
): Promise<ReportSample[]> {
  const chosen = [
    ...manifest.examples.filter((example) => !example.known).slice(0, options.heldout),
    ...manifest.examples.filter((example) => example.known).slice(0, options.known),
  ];
  if (chosen.length === 0) return [];
  const file = await SafetensorsFile.open(path.join(folder, 'examples.safetensors'));
  try {
    const pictures = chosen.map((example): Picture => {
      const { shape } = file.tensors.find((tensor) => tensor.name === `${example.name}.picture`)!;
      return { height: shape[0]!, width: shape[1]!, data: file.read(`${example.name}.picture`) as Uint8Array };
    });
    const sounds = chosen.map((example): Sound | undefined =>
      example.spoken ? { sampleRate: 16000, samples: file.read(`${example.name}.sound`) as Float32Array } : undefined,
    );
    const span = (prompts: Segment[][], output: string, sampling: Partial<SpanOptions>) =>
      generateSpan(model, prompts, output, tokenizers, manifest.vocabulary, {
        maxTokens: spanTokens(tokenizers),
        seed: options.seed,
        ...sampling,
        ...(options.signal ? { signal: options.signal } : {}),
      });
    const captions = chosen.map((example): Segment[] => [{ text: example.caption }]);
    const spoken = chosen.flatMap((example, i) => (example.spoken ? [i] : []));
    // Pictures want some variety; names and speech want the likeliest.
    const drawn = await span(captions, 'image', { temperature: 0.8, topP: 0.95 });
    const named = await span(
      pictures.map((image): Segment[] => [{ image }]),
      'text',
      { temperature: 0, maxTokens: CAPTION_TOKENS },
    );
    const said = await span(
      spoken.map((i) => captions[i]!),
      'speech',
      { temperature: 0.3, maxTokens: SPEECH_TOKENS },
    );
    return chosen.map((example, i): ReportSample => {
      const trueSound = sounds[i];
      const sound = said[spoken.indexOf(i)] as Sound | undefined;
      return {
        caption: example.caption,
        known: example.known,
        truePicture: pictures[i]!,
        tokenPicture: throughTokens(tokenizers, 'image', pictures[i]!),
        picture: drawn[i] as Picture,
        captionFromPicture: (named[i] as string).trim(),
        ...(trueSound ? { trueSound, tokenSound: throughTokens(tokenizers, 'speech', trueSound) } : {}),
        ...(sound ? { sound } : {}),
      };
    });
  } finally {
    file.close();
  }
}

function throughTokens<Raw>(tokenizers: Tokenizers, modality: string, raw: Raw): Raw {
  const tokenizer = tokenizers[modality]!;
  return tokenizer.decode(tokenizer.encode(raw as never)) as Raw;
}
