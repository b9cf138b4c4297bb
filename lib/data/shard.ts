import { join } from 'node:path';
import { MotError } from '../errors.js';
import { SafetensorsFile, writeSafetensors } from '../io/safetensors.js';
import type { Document } from '../model/batch.js';
import { modalityOfToken, type Vocabulary } from '../modalities/vocabulary.js';
import type { DatasetSplit, DocumentSource } from './dataset.js';

/** Tokens of a shard: about 80 MB. */
const SHARD_TOKENS = 2 ** 24;

/** Writes the documents of a split into shards `NAME-00000.safetensors`, ... of a folder. */
export class ShardWriter {
  readonly #folder: string;
  readonly #name: string;
  readonly #vocabulary: Vocabulary;
  readonly #shardTokens: number;
  readonly #split: DatasetSplit;
  #pending: Document[] = [];
  #tokens = 0;
  #longest = 0;

  /** @param shardTokens Tokens of a shard at most, unless one document is longer. */
  constructor(folder: string, name: string, vocabulary: Vocabulary, shardTokens = SHARD_TOKENS) {
    this.#folder = folder;
    this.#name = name;
    this.#vocabulary = vocabulary;
    this.#shardTokens = shardTokens;
    this.#split = {
      shards: [],
      documents: 0,
      tokens: 0,
      targets: Object.fromEntries(vocabulary.modalities.map((modality) => [modality, 0])),
    };
  }

  /** Tokens of the longest document so far. */
  get longest(): number {
    return this.#longest;
  }

  async add(document: Document): Promise<void> {
    const { token, modality } = document;
    if (this.#pending.length > 0 && this.#tokens + token.length > this.#shardTokens) await this.#flush();
    this.#pending.push(document);
    this.#tokens += token.length;
    this.#longest = Math.max(this.#longest, token.length);
    for (let i = 1; i < token.length; i++) this.#split.targets[this.#vocabulary.modalities[modality[i]!]!]!++;
  }

  /** Writes what is left; the split as it stands in the manifest. */
  async finish(): Promise<DatasetSplit> {
    if (this.#pending.length > 0) await this.#flush();
    return this.#split;
  }

  async #flush(): Promise<void> {
    const documents = this.#pending;
    const token = new Int32Array(this.#tokens);
    const modality = new Uint8Array(this.#tokens);
    const offsets = new BigInt64Array(documents.length + 1);
    let at = 0;
    documents.forEach((document, i) => {
      token.set(document.token, at);
      modality.set(document.modality, at);
      at += document.token.length;
      offsets[i + 1] = BigInt(at);
    });
    const file = `${this.#name}-${String(this.#split.shards.length).padStart(5, '0')}.safetensors`;
    const metadata = { format: 'mot-shard', vocabulary: JSON.stringify(this.#vocabulary) };
    await writeSafetensors(join(this.#folder, file), { token, modality, document: offsets }, metadata);
    this.#split.shards.push({ file, documents: documents.length, tokens: at });
    this.#split.documents += documents.length;
    this.#split.tokens += at;
    this.#pending = [];
    this.#tokens = 0;
  }
}

/** A shard that is open: its file and where its documents begin. */
interface OpenShard {
  file: SafetensorsFile;
  offsets: Float64Array<ArrayBufferLike>;
  /** Index in the split of its first document. */
  first: number;
}

/** The documents of a split, read from its shards one by one. */
export class ShardSource implements DocumentSource {
  readonly documents: number;
  readonly #shards: OpenShard[];
  readonly #vocabulary: Vocabulary;

  private constructor(shards: OpenShard[], documents: number, vocabulary: Vocabulary) {
    this.#shards = shards;
    this.documents = documents;
    this.#vocabulary = vocabulary;
  }

  /** @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT, and ERR_DATA for shards that are not what the split says. */
  static async open(folder: string, split: DatasetSplit, vocabulary: Vocabulary): Promise<ShardSource> {
    const shards: OpenShard[] = [];
    let first = 0;
    try {
      for (const { file: name, documents, tokens } of split.shards) {
        const file = await SafetensorsFile.open(join(folder, name));
        const shard: OpenShard = { file, offsets: new Float64Array(), first };
        shards.push(shard);
        shard.offsets = readOffsets(file, documents, tokens);
        first += documents;
      }
    } catch (error) {
      for (const { file } of shards) file.close();
      throw error;
    }
    return new ShardSource(shards, first, vocabulary);
  }

  read(i: number): { token: Int32Array; modality: Uint8Array } {
    if (!(Number.isInteger(i) && i >= 0 && i < this.documents))
      throw new MotError('ERR_ARGUMENT', `document ${i} is not in [0, ${this.documents})`);
    let low = 0;
    let high = this.#shards.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.#shards[middle]!.first <= i) low = middle;
      else high = middle;
    }
    const { file, offsets, first } = this.#shards[low]!;
    const begin = offsets[i - first]!;
    const end = offsets[i - first + 1]!;
    const token = file.readRange('token', begin, end) as Int32Array;
    const modality = file.readRange('modality', begin, end) as Uint8Array;
    this.#check(token, modality, file.path, i);
    return { token, modality };
  }

  close(): void {
    for (const { file } of this.#shards) file.close();
  }

  #check(token: Int32Array, modality: Uint8Array, path: string, i: number): void {
    for (let at = 0; at < token.length; at++) {
      const id = token[at]!;
      if (id >= 0 && id < this.#vocabulary.size && modalityOfToken(this.#vocabulary, id) === modality[at]) continue;
      throw new MotError(
        'ERR_DATA',
        `${path}: document ${i} holds the token ${id} of modality ${modality[at]}, which does not fit the vocabulary; prepare the data set again`,
      );
    }
  }
}

/** Offsets of a shard's documents; throws unless they rise from 0 to the number of tokens that the manifest says. */
function readOffsets(file: SafetensorsFile, documents: number, tokens: number): Float64Array {
  const expected = { token: ['I32', tokens], modality: ['U8', tokens], document: ['I64', documents + 1] } as const;
  for (const [name, [dtype, length]] of Object.entries(expected)) {
    const info = file.info(name);
    if (info.dtype !== dtype || info.shape.length !== 1 || info.shape[0] !== length)
      throw new MotError(
        'ERR_DATA',
        `${file.path}: ${name} is ${info.dtype} [${info.shape.join(', ')}], the manifest expects ${dtype} [${length}]; prepare the data set again`,
      );
  }
  const offsets = Float64Array.from(file.read('document') as BigInt64Array, Number);
  const rising = offsets.every((offset, i) => (i === 0 ? offset === 0 : offset > offsets[i - 1]!));
  if (!rising || offsets[documents] !== tokens)
    throw new MotError(
      'ERR_DATA',
      `${file.path}: document offsets do not rise from 0 to ${tokens}; prepare the data set again`,
    );
  return offsets;
}
