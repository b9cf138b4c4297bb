import path from 'node:path';
import { generatorSlots, makeGenerator } from '../generate/generator.js';
import { SafetensorsFile } from '../io/safetensors.js';
import type { OpenedRun } from '../generate/open_run.js';
import type { ImageGeneration } from '../generate/images.js';
import { roundTrip, type Tokenizers } from '../modalities/registry.js';
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
export function sampleSlots(tokenizers: Tokenizers, longestDocument: number, images?: ImageGeneration): number {
  return generatorSlots(tokenizers, longestDocument, BATCH, images);
}

/** Reads the data set's example concepts and lets the model draw, name and speak them. */
export async function makeSamples(
  { model, datasetFolder, manifest, tokenizers, codecs, images }: OpenedRun,
  options: SampleOptions,
): Promise<ReportSample[]> {
  const chosen = [
    ...manifest.examples.filter((example) => !example.known).slice(0, options.heldout),
    ...manifest.examples.filter((example) => example.known).slice(0, options.known),
  ];
  if (chosen.length === 0) return [];
  const file = await SafetensorsFile.open(path.join(datasetFolder, 'examples.safetensors'));
  try {
    const pictures = chosen.map((example): Picture => {
      const { shape } = file.tensors.find((tensor) => tensor.name === `${example.name}.picture`)!;
      return { height: shape[0]!, width: shape[1]!, data: file.read(`${example.name}.picture`) as Uint8Array };
    });
    const sounds = chosen.map((example): Sound | undefined =>
      example.spoken ? { sampleRate: 16000, samples: file.read(`${example.name}.sound`) as Float32Array } : undefined,
    );
    const generator = makeGenerator(model, tokenizers, manifest.vocabulary, { ...options, codecs, images });
    const captions = chosen.map((example) => example.caption);
    const spoken = chosen.flatMap((example, i) => (example.spoken ? [i] : []));
    const drawn = await generator.draw(captions);
    const named = await generator.name(pictures);
    const said = tokenizers['speech'] ? await generator.speak(spoken.map((i) => captions[i]!)) : [];
    return chosen.map((example, i): ReportSample => {
      const trueSound = sounds[i];
      const units = said[spoken.indexOf(i)];
      return {
        caption: example.caption,
        known: example.known,
        truePicture: pictures[i]!,
        tokenPicture: roundTrip('image', pictures[i]!, tokenizers, codecs),
        picture: drawn[i]!,
        captionFromPicture: named[i]!,
        ...(trueSound ? { trueSound, tokenSound: roundTrip('speech', trueSound, tokenizers, codecs) } : {}),
        ...(units ? { sound: tokenizers['speech']!.decode(units) as Sound } : {}),
      };
    });
  } finally {
    file.close();
  }
}
