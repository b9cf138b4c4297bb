import { statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { setImmediate as breathe } from 'node:timers/promises';
import { MotError } from '../errors.js';
import type { Document } from '../model/batch.js';
import { loadCodecs, loadTokenizers, splitSpans, type Segment, type Tokenizers } from '../modalities/registry.js';
import type { Codecs } from '../modalities/codec.js';
import type { Vocabulary } from '../modalities/vocabulary.js';
import type { DatasetManifest, DatasetSplit, SplitName } from './dataset.js';
import { readManifest } from './manifest.js';
import { ShardSource } from './shard.js';

/** Options of inspectDataset(). */
export interface InspectOptions {
  /** Documents of each split that are decoded, spread evenly. Default 8. */
  samples?: number;
  /** Index of every document that is decoded, instead of samples: in `split`, or in the shard where one is named. */
  documents?: readonly number[];
  /** The only split that is looked into. Default: all, but `train` where `documents` are given. */
  split?: SplitName;
  /** Documents of each split whose lengths and modalities are counted, spread evenly. Default 20000. */
  counted?: number;
}

/** What a split, or a shard of it, holds. */
export interface SplitInspection {
  split: SplitName;
  /** File of the shard; absent where it is the whole split. */
  shard?: string;
  documents: number;
  tokens: number;
  /** Documents that what follows was counted on: all, or so many spread evenly. */
  counted: number;
  /** Tokens of a document. */
  lengths: { shortest: number; median: number; mean: number; p95: number; longest: number };
  /** By modality: its share of the tokens, and its spans a document. */
  modalities: Record<string, { share: number; spans: number }>;
  samples: DocumentSample[];
}

/** One document, decoded. */
export interface DocumentSample {
  /** Index in the split or shard. */
  index: number;
  tokens: number;
  segments: Segment[];
}

const DOCUMENTS_A_BREATH = 500;

/**
 * Looks into a prepared data set.
 *
 * @param where Its folder, or one shard in it.
 * @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT, ERR_DATA; ERR_ARGUMENT for a file that is none of its shards, and for
 *   documents that are not there.
 */
export async function inspectDataset(
  where: string,
  options: InspectOptions = {},
): Promise<{ folder: string; manifest: DatasetManifest; splits: SplitInspection[] }> {
  const { samples = 8, counted = 20000, documents } = options;
  const file = statSync(where, { throwIfNoEntry: false })?.isFile() ? basename(where) : undefined;
  const folder = file === undefined ? where : dirname(where);
  const manifest = readManifest(folder);
  const { vocabulary } = manifest;
  const tokenizers = await loadTokenizers(folder, manifest);
  const codecs = await loadCodecs(folder, manifest);
  const splits: SplitInspection[] = [];
  // A shard is of one split; which, its name says.
  const only = options.split ?? (documents && file === undefined ? 'train' : undefined);
  for (const name of Object.keys(manifest.splits) as SplitName[]) {
    if (only !== undefined && name !== only) continue;
    const split = file === undefined ? manifest.splits[name] : onlyShard(manifest.splits[name], file);
    if (documents && (file === undefined || split.shards.length > 0))
      checkDocuments(documents, split.documents, file ?? `the split ${name} of ${folder}`);
    if (split.documents === 0) continue;
    const source = await ShardSource.open(folder, split, vocabulary, manifest.tokenizers);
    try {
      const place = { split: name, ...(file === undefined ? {} : { shard: file }) };
      const figures = await count(source, vocabulary, counted);
      const decoded: DocumentSample[] = [];
      for (const index of documents ?? spread(source.documents, samples)) {
        const document = source.read(index);
        const segments = await Promise.all(decodeStored(document, tokenizers, codecs, vocabulary));
        decoded.push({ index, tokens: document.token.length, segments });
      }
      splits.push({ ...place, documents: split.documents, tokens: split.tokens, ...figures, samples: decoded });
    } finally {
      source.close();
    }
  }
  if (file !== undefined && splits.length === 0)
    throw new MotError('ERR_ARGUMENT', `${where} is not a shard of the data set in ${folder}; see its manifest.json.`);
  return { folder, manifest, splits };
}

function checkDocuments(indices: readonly number[], count: number, where: string): void {
  const wrong = indices.find((index) => !(Number.isInteger(index) && index >= 0 && index < count));
  if (wrong !== undefined)
    throw new MotError(
      'ERR_ARGUMENT',
      `there is no document ${wrong} in ${where}, which has ${count === 0 ? 'none' : `0 to ${count - 1}`}.`,
    );
}

/** The split with this shard and no other. */
function onlyShard(split: DatasetSplit, file: string): DatasetSplit {
  const shards = split.shards.filter((shard) => shard.file === file);
  const sum = (key: 'documents' | 'tokens'): number => shards.reduce((total, shard) => total + shard[key], 0);
  return { ...split, shards, documents: sum('documents'), tokens: sum('tokens') };
}

/** At most `count` indices below n, spread evenly. */
function spread(n: number, count: number): number[] {
  const taken = Math.min(n, count);
  return Array.from({ length: taken }, (_, i) => Math.floor((i * n) / taken));
}

async function count(
  source: ShardSource,
  { modalities }: Vocabulary,
  limit: number,
): Promise<Pick<SplitInspection, 'counted' | 'lengths' | 'modalities'>> {
  const lengths: number[] = [];
  const tokens = modalities.map(() => 0);
  const spans = modalities.map(() => 0);
  for (const index of spread(source.documents, Math.max(1, limit))) {
    const { modality } = source.read(index);
    lengths.push(modality.length);
    modality.forEach((m, i) => {
      tokens[m]!++;
      if (i === 0 || modality[i - 1] !== m) spans[m]!++;
    });
    if (lengths.length % DOCUMENTS_A_BREATH === 0) await breathe();
  }
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const documents = lengths.length;
  lengths.sort((a, b) => a - b);
  const at = (share: number): number => lengths[Math.min(documents - 1, Math.floor(share * documents))]!;
  return {
    counted: documents,
    lengths: { shortest: at(0), median: at(0.5), mean: total / documents, p95: at(0.95), longest: at(1) },
    modalities: Object.fromEntries(
      modalities.map((name, m) => [name, { share: tokens[m]! / total, spans: spans[m]! / documents }]),
    ),
  };
}

/** The segments of a document; continuous modalities come from their latents. */
export function decodeStored(
  { token, latent }: Pick<Document, 'token' | 'latent'>,
  tokenizers: Tokenizers,
  codecs: Codecs,
  vocabulary: Vocabulary,
): Promise<Segment>[] {
  let row = 0;
  return splitSpans(token, vocabulary).map(async ({ modality, ids }) => {
    const codec = codecs[modality];
    if (codec === undefined) return { [modality]: await tokenizers[modality]!.decode(ids) } as unknown as Segment;
    const begin = row * codec.patchDim;
    row += ids.length;
    return { [modality]: codec.decode(latent!.slice(begin, row * codec.patchDim)) } as Segment;
  });
}
