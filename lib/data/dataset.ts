import type { Document } from '../model/batch.js';
import type { Vocabulary } from '../modalities/vocabulary.js';

/**
 * A prepared data set: a folder with `manifest.json`, tokenizers and token shards.
 *
 * A token shard is a safetensors file with `token` I32 [N], `modality` U8 [N], `document` I64 [documents + 1]
 * (offsets into the two). Where the vocabulary has a continuous modality it also holds `latent` F32 [R, P], the patches of
 * all documents in reading order, and `latent_offset` I64 [documents + 1], the rows where each document's begin.
 */
export interface DatasetManifest {
  format: 'mot-dataset';
  version: 1;
  name: string;
  /** Hash of everything the data follows from (options, seed, package versions): the key of the cache. */
  fingerprint: string;
  /** What it was prepared with, for data sets that can compose their documents anew: those of `mot prepare`. */
  options?: Record<string, unknown> | undefined;
  /** Own data: hash of the config and of names, sizes and times of the source files. */
  inputs?: string;
  vocabulary: Vocabulary;
  /** File and SHA-256 of each tokenizer, relative to the folder. */
  tokenizers: Record<string, { file: string; sha256: string }>;
  /** The same for the codec of each continuous modality; absent where all are discrete. */
  codecs?: Record<string, { file: string; sha256: string }>;
  splits: Record<SplitName, DatasetSplit>;
  /** Longest document in tokens. */
  longestDocument: number;
  /** Lines to beat, nats a token, by split and modality of the predicted token. */
  baselines: Record<'validation' | 'heldout', Record<string, { unigram: number; bigram: number }>>;
  /** Pictures, names and sounds of concepts for the report: `examples.safetensors` and this list. */
  examples: DatasetExample[];
  /** Licences and attributions of pictures and voices. */
  attribution: { what: string; by: string; licence: string; url: string }[];
  /** Own data: how files of pictures are made to fit. */
  imageFit?: 'cover' | 'letterbox';
  /** Own data: what came of each source. */
  sources?: SourceSummary[];
}

/** What came of one source of the user's own data. */
export interface SourceSummary {
  kind: string;
  /** Path patterns, and the files that they name. */
  patterns: string[];
  files: number;
  /** Items that were used, and that were skipped (see skipped.jsonl). */
  items: number;
  skipped: number;
  /** Documents made of them in all splits, and their tokens by modality (boundaries count as text). */
  documents: number;
  tokens: Record<string, number>;
}

/** `validation`: new scenes of known concepts. `heldout`: scenes of concepts that training never sees. */
export type SplitName = 'train' | 'validation' | 'heldout';

export interface DatasetSplit {
  shards: { file: string; documents: number; tokens: number; crc32?: string }[];
  documents: number;
  tokens: number;
  /** Predicted tokens of each modality; patches are not predicted. */
  targets: Record<string, number>;
}

/** One picture with its caption and spoken caption. In examples.safetensors: `NAME.picture` U8 [32, 32, 3], `NAME.sound` F32 [samples] at 16 kHz. */
export interface DatasetExample {
  /** Key of its tensors. */
  name: string;
  /** Caption as the model sees it. */
  caption: string;
  /** Whether training saw its concept. */
  known: boolean;
  /** Whether there is a sound. */
  spoken: boolean;
}

/** A contiguous run of documents of one split, read from shards. */
export interface DocumentSource {
  readonly documents: number;
  /** Document i of the split (copied). Where there is a continuous modality, every document has latents and patchRow. */
  read(i: number): Document & { token: Int32Array; modality: Uint8Array };
  close(): void;
}
