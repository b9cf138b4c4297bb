import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { decodeStored } from '../data/inspect.js';
import type { DatasetManifest, DocumentSource } from '../data/dataset.js';
import type { ImageGeneration } from '../generate/images.js';
import { generateSpan, promptTokens } from '../generate/spans.js';
import { fileError, removeQuietly } from '../io/files.js';
import { encodePng } from '../media/png.js';
import { encodeWav } from '../media/wav.js';
import type { Model, WeightKind } from '../model/model.js';
import type { Codecs } from '../modalities/codec.js';
import type { Segment, Tokenizers } from '../modalities/registry.js';
import type { Picture, Sound } from '../modalities/tokenizer.js';

const LIST_FILE = 'samples.json';
const TEMPORARY = /^\.step-\d+\.tmp-\d+$/;
/** Documents among which prompts are looked for. */
const LOOKED_AT = 500;

/** Of pictures, sounds and other modalities; text is the likeliest. */
const SAMPLING = { temperature: 0.8, topP: 0.95 };
/** Steps of a picture that is drawn by diffusion. */
const DIFFUSION_STEPS = 50;

/** A file beside the list, as a web address may name it too. */
export const SAMPLE_FILE = /^[a-z0-9_-]+\.(png|wav)$/;

const pieceSchema = z.union([
  z.strictObject({ modality: z.string(), text: z.string() }),
  z.strictObject({ modality: z.string(), file: z.string().regex(SAMPLE_FILE) }),
]);

const sampleSchema = z.strictObject({
  /** What it goes on from: the beginning of a document that training does not see. */
  prompt: z.array(pieceSchema),
  /** What the model makes of it, and what the document has there. */
  generated: pieceSchema,
  truth: pieceSchema,
});

/** A text (of modalities that are no picture and no sound their JSON), or a picture or sound in a file. */
export type SamplePiece = z.output<typeof pieceSchema>;
/** One of a run's samples, as `samples.json` lists them. */
export type TrainingSample = z.output<typeof sampleSchema>;

/** What samples are generated with. */
export interface SampleSetup {
  model: Model;
  manifest: Pick<DatasetManifest, 'vocabulary' | 'longestDocument'>;
  tokenizers: Tokenizers;
  codecs: Codecs;
  images?: ImageGeneration;
  weights: WeightKind;
  seed: number;
}

/** A prompt, and what its document goes on with. */
interface Prompt {
  segments: Segment[];
  truth: Segment;
}

/**
 * Generates the same few samples again and again while a model learns: of each modality so many, each from the beginning
 * of a document up to its span. Their draws are keyed by seed and prompt, and touch nothing that training depends on.
 */
export class TrainingSamples {
  private constructor(
    private readonly run: string,
    private readonly setup: SampleSetup,
    private readonly prompts: ReadonlyMap<string, Prompt[]>,
  ) {}

  /**
   * Chooses the prompts, and removes what a killed process left half written.
   *
   * @param source Documents that training does not see.
   * @param count Samples of each modality.
   */
  static async open(run: string, setup: SampleSetup, source: DocumentSource, count: number): Promise<TrainingSamples> {
    const { vocabulary } = setup.manifest;
    const prompts = new Map<string, Prompt[]>(vocabulary.modalities.map((modality) => [modality, []]));
    for (let d = 0; d < Math.min(LOOKED_AT, source.documents); d++) {
      if ([...prompts.values()].every((chosen) => chosen.length >= count)) break;
      const segments = await Promise.all(decodeStored(source.read(d), setup.tokenizers, setup.codecs, vocabulary));
      // A document of one span is generated from nothing; of others, what comes first is given.
      const first = segments.length > 1 ? 1 : 0;
      segments.slice(first).forEach((truth, i) => {
        const chosen = prompts.get(modalityOf(truth))!;
        if (chosen.length < count) chosen.push({ segments: segments.slice(0, first + i), truth });
      });
    }
    const folder = join(run, 'samples');
    if (existsSync(folder))
      for (const name of readdirSync(folder)) if (TEMPORARY.test(name)) removeQuietly(join(folder, name));
    return new TrainingSamples(run, setup, prompts);
  }

  /**
   * Writes RUN/samples/step-NNNNNN: `samples.json` and the pictures and sounds that it names.
   *
   * @throws MotError ERR_FILE_WRITE, ERR_ABORTED.
   */
  async write(step: number, signal?: AbortSignal): Promise<void> {
    const files = new Map<string, Uint8Array | string>();
    const samples: TrainingSample[] = [];
    for (const [modality, prompts] of this.prompts) {
      const generated = await this.generate(modality, prompts, signal);
      prompts.forEach(({ segments, truth }, i) => {
        const name = `${modality}-${i}`;
        samples.push({
          prompt: segments.map((segment, s) => keep(segment, `${name}-prompt-${s}`, files)),
          generated: keep({ [modality]: generated[i]! } as Segment, `${name}-generated`, files),
          truth: keep(truth, `${name}-truth`, files),
        });
      });
    }
    files.set(LIST_FILE, `${JSON.stringify(samples, null, 2)}\n`);
    this.replaceFolder(step, files);
  }

  private async generate(modality: string, prompts: readonly Prompt[], signal?: AbortSignal): Promise<unknown[]> {
    const { model, manifest, tokenizers, codecs, images, weights, seed } = this.setup;
    const { vocabulary, longestDocument } = manifest;
    const results: unknown[] = [];
    // One at a time: the cache holds one document.
    for (const [i, { segments }] of prompts.entries()) {
      const given = (await promptTokens(segments, modality, tokenizers, vocabulary, codecs)).token.length;
      const [result] = await generateSpan(model, [segments], modality, tokenizers, vocabulary, {
        ...(modality === 'text' ? { temperature: 0 } : SAMPLING),
        maxTokens: Math.max(1, longestDocument - given),
        seed: seed + i,
        weights,
        codecs,
        ...(images ? { images: { samplingSteps: DIFFUSION_STEPS, ...images } } : {}),
        ...(signal ? { signal } : {}),
      });
      results.push(result);
    }
    return results;
  }

  /** All files under a temporary name, then one rename: a folder of samples is whole or not there. */
  private replaceFolder(step: number, files: ReadonlyMap<string, Uint8Array | string>): void {
    const folder = join(this.run, samplesFolder(step));
    const temporary = join(this.run, 'samples', `.${stepName(step)}.tmp-${process.pid}`);
    try {
      // Not the run's folder, which must not be made anew where it has vanished.
      if (!existsSync(join(this.run, 'samples'))) mkdirSync(join(this.run, 'samples'));
      mkdirSync(temporary);
      for (const [name, bytes] of files) writeFileSync(join(temporary, name), bytes);
      rmSync(folder, { recursive: true, force: true });
      renameSync(temporary, folder);
    } catch (cause) {
      removeQuietly(temporary);
      throw fileError('ERR_FILE_WRITE', `cannot write the samples ${folder}`, cause);
    }
  }
}

/** Folder of a step's samples in a run: `samples/step-000200`. */
export function samplesFolder(step: number): string {
  return `samples/${stepName(step)}`;
}

function stepName(step: number): string {
  return `step-${String(step).padStart(6, '0')}`;
}

/** The samples of a step; undefined where they are not there, or not what they should be. */
export function readSamples(run: string, step: number): TrainingSample[] | undefined {
  try {
    const text = readFileSync(join(run, samplesFolder(step), LIST_FILE), 'utf8');
    return z.array(sampleSchema).safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

function modalityOf(segment: Segment): string {
  return Object.keys(segment)[0]!;
}

/** A segment as the list has it; what needs a file is added to the files. */
function keep(segment: Segment, name: string, files: Map<string, Uint8Array | string>): SamplePiece {
  const [modality, value] = Object.entries(segment)[0] as [string, unknown];
  if (modality === 'image') {
    files.set(`${name}.png`, encodePng(value as Picture));
    return { modality, file: `${name}.png` };
  }
  if (modality === 'speech') {
    files.set(`${name}.wav`, encodeWav(value as Sound));
    return { modality, file: `${name}.wav` };
  }
  return { modality, text: typeof value === 'string' ? value : JSON.stringify(value) };
}
