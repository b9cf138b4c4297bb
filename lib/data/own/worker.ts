import path from 'node:path';
import { joinSpans, type Span } from '../../modalities/document.js';
import { ImageTokenizer, type ImageTokenizerOptions } from '../../modalities/image/patch_codebook.js';
import { MotError } from '../../errors.js';
import { importModality, type ModuleContext } from '../../modalities/module.js';
import { loadTokenizers, type Tokenizers } from '../../modalities/registry.js';
import { SpeechTokenizer, type SpeechTokenizerOptions } from '../../modalities/speech/speech_units.js';
import type { TensorSet } from '../../modalities/tensors.js';
import { trainBpe, type BpeModel, type BpeOptions } from '../../modalities/text/train_bpe.js';
import type { Picture, Sound } from '../../modalities/tokenizer.js';
import type { Vocabulary } from '../../modalities/vocabulary.js';
import type { DatasetManifest } from '../dataset.js';
import { serveTasks } from '../../threads/worker_tasks.js';
import { isSkip, ItemHash, type Item, type Skip } from './item.js';
import { BadItem, decodeSegment, encodeItem, modalityOf, type MediaOptions } from './media.js';
import type { OwnOptions } from './options.js';
import { readTask } from './read.js';
import type { Task } from './tasks.js';

/** What a data set's tasks have in common. */
export interface EncodeContext {
  folder: string;
  tokenizers: DatasetManifest['tokenizers'];
  vocabulary: Vocabulary;
  options: OwnOptions;
}

/** Documents of a task, one after the other. */
export interface EncodedTask {
  token: Int32Array;
  modality: Uint8Array;
  /** Tokens, split and copies of each document. */
  lengths: Int32Array;
  splits: Uint8Array;
  copies: Uint8Array;
  /** Usable items, and lines of a text file. */
  items: number;
  lines: number;
  skips: Skip[];
}

/** Raw material that tokenizers are learnt from. */
export interface Sample {
  texts: string[];
  pictures: Picture[];
  sounds: Sound[];
  /** Of modalities of the user's own. */
  own: Record<string, unknown[]>;
  /** Usable items looked at, of any split. */
  items: number;
  /** The first that could not be used. */
  skip?: Skip;
}

/** What the workers of `mot prepare CONFIG` do. */
export interface OwnTasks {
  /** At most `limit` usable items of a task; those of the training split give material. */
  sample: { task: { task: Task; options: OwnOptions; limit: number }; result: Sample };
  encode: { task: { task: Task; context: EncodeContext }; result: EncodedTask };
  trainText: { task: { texts: string[]; options: BpeOptions }; result: BpeModel };
  trainImage: { task: { pictures: Picture[]; options: ImageTokenizerOptions; threads: number }; result: TensorSet };
  trainSpeech: { task: { sounds: Sound[]; options: SpeechTokenizerOptions; threads: number }; result: TensorSet };
  /** The state of a tokenizer that a module makes. */
  createModule: { task: { module: string; context: ModuleContext<unknown> }; result: unknown };
}

// A broken Parquet file can fail in several columns at once; the first failure is the task's, nobody waits for the others.
process.on('unhandledRejection', () => {});

serveTasks<OwnTasks>({
  sample: ({ task, options, limit }) => takeSample(task, options, limit),
  encode: ({ task, context }) => encodeTask(task, context),
  trainText: ({ texts, options }) => trainBpe(texts, options),
  trainImage: async ({ pictures, options, threads }) =>
    (await ImageTokenizer.trainOnThreads(pictures, options, threads)).toTensors(),
  trainSpeech: async ({ sounds, options, threads }) =>
    (await SpeechTokenizer.trainOnThreads(sounds, options, threads)).toTensors(),
  createModule: async ({ module, context }) => {
    const made = await importModality(module);
    try {
      // As the data set keeps it.
      return JSON.parse(JSON.stringify((await made.create(context)) ?? null)) as unknown;
    } catch (cause) {
      const { message } = cause as Error;
      throw new MotError('ERR_CONFIG', `${module}: create for ${context.modality} failed: ${message}`, { cause });
    }
  },
});

function mediaOptions(task: Task, item: Item, { sources, tokenizers, limits }: OwnOptions): MediaOptions {
  const root = sources[task.source]!.root ?? path.dirname(item.place.file ?? task.file);
  return { image: tokenizers.image, own: tokenizers.own, limits, root };
}

/** Split of an item: 0 train, 1 validation, 2 heldout. */
function splitOf(hash: ItemHash, { split }: OwnOptions): number {
  if (hash.split < split.validation) return 1;
  return hash.split < split.validation + split.heldout ? 2 : 0;
}

function emptySample(): Sample {
  return { texts: [], pictures: [], sounds: [], own: {}, items: 0 };
}

async function takeSample(task: Task, options: OwnOptions, limit: number): Promise<Sample> {
  const sample = emptySample();
  const { entries } = await readTask(task, options);
  const wanted = options.modalities;
  for (const entry of entries) {
    if (sample.items >= limit) break;
    if (isSkip(entry)) {
      sample.skip ??= entry;
      continue;
    }
    try {
      const train = splitOf(new ItemHash(entry, options.seed), options) === 0;
      let empty = true;
      const decoded = [];
      for (const segment of entry.segments) {
        const modality = modalityOf(segment);
        if (wanted && modality !== 'text' && !wanted.includes(modality))
          throw new BadItem(`it has ${modality}, which is not among the modalities of this data set`);
        const raw = await decodeSegment(segment, mediaOptions(task, entry, options));
        empty &&= 'text' in raw && raw.text === '';
        decoded.push(raw);
      }
      if (empty) throw new BadItem('it is empty');
      sample.items++;
      if (!train) continue;
      for (const raw of decoded) {
        if ('text' in raw) sample.texts.push(raw.text);
        else if ('image' in raw) sample.pictures.push(raw.image);
        else if ('speech' in raw) sample.sounds.push(raw.speech);
        else for (const [name, value] of Object.entries(raw)) (sample.own[name] ??= []).push(value);
      }
    } catch (error) {
      if (!(error instanceof BadItem)) throw error;
      sample.skip ??= { place: entry.place, reason: error.message };
    }
  }
  return sample;
}

let loaded: Promise<Tokenizers> | undefined;

async function encodeTask(task: Task, context: EncodeContext): Promise<EncodedTask> {
  const { options, vocabulary, folder, tokenizers } = context;
  const known = await (loaded ??= loadTokenizers(folder, { tokenizers, vocabulary }));
  const source = options.sources[task.source]!;
  const { entries, lines } = await readTask(task, options);
  const documents: { token: Int32Array; modality: Uint8Array; split: number; copies: number }[] = [];
  const skips: Skip[] = [];
  let items = 0;
  for (const entry of entries) {
    if (isSkip(entry)) {
      skips.push(entry);
      continue;
    }
    try {
      const hash = new ItemHash(entry, options.seed);
      const split = splitOf(hash, options);
      // Validation judges each document once, whatever its weight.
      const whole = Math.floor(source.weight);
      const copies = split > 0 ? 1 : whole + (hash.copies < source.weight - whole ? 1 : 0);
      const item = source.order === 'random' ? { ...entry, segments: hash.shuffle(entry.segments) } : entry;
      const spans = await encodeItem(item, known, mediaOptions(task, entry, options));
      for (const piece of piecesOf(spans, options))
        documents.push({ ...joinSpans(piece, vocabulary, true), split, copies });
      items++;
    } catch (error) {
      if (!(error instanceof BadItem)) throw error;
      skips.push({ place: entry.place, reason: error.message });
    }
  }
  const total = documents.reduce((sum, { token }) => sum + token.length, 0);
  const token = new Int32Array(total);
  const modality = new Uint8Array(total);
  let at = 0;
  for (const document of documents) {
    token.set(document.token, at);
    modality.set(document.modality, at);
    at += document.token.length;
  }
  return {
    token,
    modality,
    lengths: Int32Array.from(documents, (document) => document.token.length),
    splits: Uint8Array.from(documents, ({ split }) => split),
    copies: Uint8Array.from(documents, ({ copies }) => copies),
    items,
    lines,
    skips,
  };
}

/** The spans as documents that are not too long. Throws BadItem where they cannot be cut. */
function piecesOf(spans: readonly { modality: string; ids: Int32Array }[], options: OwnOptions): Span[][] {
  const { max_tokens: most, long_text } = options;
  const length = spans.reduce((sum, { modality, ids }) => sum + ids.length + (modality === 'text' ? 0 : 2), 2);
  if (length <= most) return [[...spans]];
  if (long_text === 'skip' || spans.some(({ modality }) => modality !== 'text'))
    throw new BadItem(`it has ${length} tokens, more than max_tokens (${most})`);
  const ids = Int32Array.from(spans.flatMap((span) => Array.from(span.ids)));
  const room = most - 2;
  return Array.from({ length: Math.ceil(ids.length / room) }, (_, i) => [
    { modality: 'text', ids: ids.subarray(i * room, (i + 1) * room) },
  ]);
}
