import path from 'node:path';
import type { DatasetManifest } from '../data/dataset.js';
import { generatorSlots, makeGenerator } from '../generate/generator.js';
import { SafetensorsFile } from '../io/safetensors.js';
import type { Model } from '../model/model.js';
import type { Tokenizers } from '../modalities/registry.js';
import type { Picture, Sound } from '../modalities/tokenizer.js';
import type { ReportSample } from './data.js';

export interface SampleOptions {
  /** Concepts shown: at most so many that training never saw, and so many that it did. */
  heldout: number;
  known: number;
  seed: number;
  signal?: AbortSignal;
}

/** Sequences side by side. */
const BATCH = 8;

/** Slots of the KV cache that {@link makeSamples} uses well. */
export function sampleSlots(tokenizers: Tokenizers, longestDocument: number): number {
  return generatorSlots(tokenizers, longestDocument, BATCH);
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
    const generator = makeGenerator(model, tokenizers, manifest.vocabulary, options);
    const captions = chosen.map((example) => example.caption);
    const spoken = chosen.flatMap((example, i) => (example.spoken ? [i] : []));
    const drawn = await generator.draw(captions);
    const named = await generator.name(pictures);
    const said = await generator.speak(spoken.map((i) => captions[i]!));
    return chosen.map((example, i): ReportSample => {
      const trueSound = sounds[i];
      const units = said[spoken.indexOf(i)];
      return {
        caption: example.caption,
        known: example.known,
        truePicture: pictures[i]!,
        tokenPicture: throughTokens(tokenizers, 'image', pictures[i]!),
        picture: drawn[i]!,
        captionFromPicture: named[i]!,
        ...(trueSound ? { trueSound, tokenSound: throughTokens(tokenizers, 'speech', trueSound) } : {}),
        ...(units ? { sound: tokenizers['speech']!.decode(units) as Sound } : {}),
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
