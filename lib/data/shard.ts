import { join } from 'node:path';
import { MotError } from '../errors.js';
import { SafetensorsFile, writeSafetensors } from '../io/safetensors.js';
import { isPredicted, type Document } from '../model/batch.js';
import { patchRows } from '../modalities/document.js';
import { continuousModality, modalityOfToken, type Vocabulary } from '../modalities/vocabulary.js';
import type { DatasetManifest, DatasetSplit, DocumentSource } from './dataset.js';

/** Tokens of a shard: about 80 MB; fewer where patches take more. */
const SHARD_TOKENS = 2 ** 24;
/** Numbers in the latents of a shard: 256 MB. */
const SHARD_LATENTS = 2 ** 26;

/** Writes the documents of a split into shards `NAME-00000.safetensors`, ... of a folder. */
export class ShardWriter {
  readonly #folder: string;
  readonly #name: string;
  readonly #vocabulary: Vocabulary;
  readonly #shardTokens: number;
  readonly #metadata: Record<string, string>;
  readonly #split: DatasetSplit;
  readonly #patchDim: number | undefined;
  #pending: Document[] = [];
  #tokens = 0;
  #latents = 0;
  #longest = 0;

  /**
   * @param shardTokens Tokens of a shard at most, unless one document is longer.
   * @param known Tokenizers of the data set, whose hashes go into the shards; a split to go on with, which is changed.
   */
  constructor(
    folder: string,
    name: string,
    vocabulary: Vocabulary,
    shardTokens = SHARD_TOKENS,
    known: { tokenizers?: DatasetManifest['tokenizers']; split?: DatasetSplit } = {},
  ) {
    this.#folder = folder;
    this.#name = name;
    this.#vocabulary = vocabulary;
    this.#shardTokens = shardTokens;
    this.#patchDim = continuousModality(vocabulary)?.patchDim;
    this.#metadata = {
      format: 'mot-shard',
      vocabulary: JSON.stringify(vocabulary),
      ...(known.tokenizers ? { tokenizers: tokenizerHashes(known.tokenizers) } : {}),
    };
    this.#split = known.split ?? {
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

  /** @throws MotError ERR_DATA for latents that do not fit the vocabulary's continuous modality. */
  async add(document: Document): Promise<void> {
    const { token, modality, latent } = document;
    this.#checkLatents(document);
    const latents = latent?.length ?? 0;
    const full = this.#tokens + token.length > this.#shardTokens || this.#latents + latents > SHARD_LATENTS;
    if (this.#pending.length > 0 && full) await this.#flush();
    this.#pending.push(document);
    this.#tokens += token.length;
    this.#latents += latents;
    this.#longest = Math.max(this.#longest, token.length);
    for (let i = 1; i < token.length; i++)
      if (isPredicted(document, i)) this.#split.targets[this.#vocabulary.modalities[modality[i]!]!]!++;
  }

  /** A shard keeps latents in reading order, and tells patches by their modality. */
  #checkLatents({ modality, latent, patchRow }: Document): void {
    const fail = (got: string): never => {
      throw new MotError('ERR_DATA', `a document of this vocabulary needs ${got}; joinSpans makes such documents`);
    };
    if (this.#patchDim === undefined) {
      if (latent !== undefined && latent.length > 0) fail('no latents: it has no continuous modality');
      return;
    }
    const rows = patchRows(modality, this.#vocabulary);
    const count = rows.reduce((sum, row) => sum + (row >= 0 ? 1 : 0), 0);
    const numbers = latent?.length ?? 0;
    if (numbers !== count * this.#patchDim)
      fail(`latents of ${count} patches of ${this.#patchDim} numbers, but has ${numbers} numbers`);
    if (patchRow !== undefined && rows.some((row, i) => row !== patchRow[i]))
      fail('a row of latents for each patch, in reading order');
  }

  /** Writes what is left, as a shard of its own; the split as it stands in the manifest. */
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
    const latents = this.#patchDim === undefined ? {} : this.#joinLatents(documents, this.#patchDim);
    const file = `${this.#name}-${String(this.#split.shards.length).padStart(5, '0')}.safetensors`;
    const tensors = { token, modality, document: offsets, ...latents };
    const crc32 = await writeSafetensors(join(this.#folder, file), tensors, this.#metadata);
    this.#split.shards.push({ file, documents: documents.length, tokens: at, crc32 });
    this.#split.documents += documents.length;
    this.#split.tokens += at;
    this.#pending = [];
    this.#tokens = 0;
    this.#latents = 0;
  }

  #joinLatents(documents: readonly Document[], patchDim: number) {
    const data = new Float32Array(this.#latents);
    const offsets = new BigInt64Array(documents.length + 1);
    let at = 0;
    documents.forEach(({ latent }, i) => {
      if (latent) data.set(latent, at);
      at += latent?.length ?? 0;
      offsets[i + 1] = BigInt(at / patchDim);
    });
    return { latent: { shape: [at / patchDim, patchDim], data }, latent_offset: offsets };
  }
}

/** Hashes of tokenizers by modality, as shards name them. */
function tokenizerHashes(tokenizers: DatasetManifest['tokenizers']): string {
  return JSON.stringify(Object.fromEntries(Object.entries(tokenizers).map(([name, { sha256 }]) => [name, sha256])));
}

/** A shard that is open: its file and where its documents begin. */
interface OpenShard {
  file: SafetensorsFile;
  offsets: Float64Array<ArrayBufferLike>;
  /** Where the latents of its documents begin, in patches; only with a continuous modality. */
  latentOffsets?: Float64Array<ArrayBufferLike>;
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

  /**
   * @param tokenizers Those that the shards must be encoded with, where they name any.
   * @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT, and ERR_DATA for shards that are not what the split says.
   */
  static async open(
    folder: string,
    split: DatasetSplit,
    vocabulary: Vocabulary,
    tokenizers?: DatasetManifest['tokenizers'],
  ): Promise<ShardSource> {
    const shards: OpenShard[] = [];
    let first = 0;
    try {
      for (const { file: name, documents, tokens } of split.shards) {
        const file = await SafetensorsFile.open(join(folder, name));
        const shard: OpenShard = { file, offsets: new Float64Array(), first };
        shards.push(shard);
        if (tokenizers) checkTokenizers(file, tokenizers);
        shard.offsets = readOffsets(file, documents, tokens);
        const continuous = continuousModality(vocabulary);
        if (continuous) shard.latentOffsets = readLatentOffsets(file, documents, continuous.patchDim);
        first += documents;
      }
    } catch (error) {
      for (const { file } of shards) file.close();
      throw error;
    }
    return new ShardSource(shards, first, vocabulary);
  }

  read(i: number): Document & { token: Int32Array; modality: Uint8Array } {
    if (!(Number.isInteger(i) && i >= 0 && i < this.documents))
      throw new MotError('ERR_ARGUMENT', `document ${i} is not in [0, ${this.documents})`);
    let low = 0;
    let high = this.#shards.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.#shards[middle]!.first <= i) low = middle;
      else high = middle;
    }
    const { file, offsets, latentOffsets, first } = this.#shards[low]!;
    const begin = offsets[i - first]!;
    const end = offsets[i - first + 1]!;
    const token = file.readRange('token', begin, end) as Int32Array;
    const modality = file.readRange('modality', begin, end) as Uint8Array;
    this.#check(token, modality, file.path, i);
    if (latentOffsets === undefined) return { token, modality };
    const rows = [latentOffsets[i - first]!, latentOffsets[i - first + 1]!] as const;
    return { token, modality, ...this.#readLatents(file, modality, rows, i) };
  }

  #readLatents(
    file: SafetensorsFile,
    modality: Uint8Array,
    [begin, end]: readonly [number, number],
    i: number,
  ): Pick<Document, 'latent' | 'patchRow'> {
    const { patchDim } = continuousModality(this.#vocabulary)!;
    const patchRow = patchRows(modality, this.#vocabulary);
    const patches = patchRow.reduce((sum, row) => sum + (row >= 0 ? 1 : 0), 0);
    const latent = file.readRange('latent', begin * patchDim, end * patchDim) as Float32Array;
    if (patches !== end - begin || !latent.every(Number.isFinite))
      throw new MotError(
        'ERR_DATA',
        `${file.path}: document ${i} has ${patches} patches and finite latents of as many are needed, got ${end - begin} rows; prepare the data set again`,
      );
    return { latent, patchRow };
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

/** Ids mean what their tokenizer says: those of another one are as good as noise. */
function checkTokenizers(file: SafetensorsFile, tokenizers: DatasetManifest['tokenizers']): void {
  const made = file.metadata['tokenizers'];
  if (made === undefined || made === tokenizerHashes(tokenizers)) return;
  throw new MotError(
    'ERR_DATA',
    `${file.path} was encoded with other tokenizers than those of this data set; prepare the data set again`,
  );
}

/** Offsets of a shard's documents; throws unless they rise from 0 to the number of tokens that the manifest says. */
function readOffsets(file: SafetensorsFile, documents: number, tokens: number): Float64Array {
  expectTensor(file, 'token', 'I32', [tokens]);
  expectTensor(file, 'modality', 'U8', [tokens]);
  return readRising(file, 'document', documents, tokens, true);
}

/** Where the latents of a shard's documents begin. */
function readLatentOffsets(file: SafetensorsFile, documents: number, patchDim: number): Float64Array {
  const rows = file.has('latent') ? (file.info('latent').shape[0] ?? 0) : 0;
  expectTensor(file, 'latent', 'F32', [rows, patchDim]);
  return readRising(file, 'latent_offset', documents, rows, false);
}

function expectTensor(file: SafetensorsFile, name: string, dtype: string, shape: number[]): void {
  const info = file.has(name) ? file.info(name) : { dtype: 'nothing', shape: [] };
  if (info.dtype !== dtype || info.shape.join() !== shape.join())
    throw new MotError(
      'ERR_DATA',
      `${file.path}: ${name} is ${info.dtype} [${info.shape.join(', ')}], the manifest expects ${dtype} [${shape.join(', ')}]; prepare the data set again`,
    );
}

/** Offsets [documents + 1] that rise from 0 to `end`; strictly where no document may be empty. */
function readRising(
  file: SafetensorsFile,
  name: string,
  documents: number,
  end: number,
  strictly: boolean,
): Float64Array {
  expectTensor(file, name, 'I64', [documents + 1]);
  const offsets = Float64Array.from(file.read(name) as BigInt64Array, Number);
  const rising = offsets.every((offset, i) => {
    const before = offsets[i - 1];
    return before === undefined ? offset === 0 : offset > before || (offset === before && !strictly);
  });
  if (!rising || offsets[documents] !== end)
    throw new MotError(
      'ERR_DATA',
      `${file.path}: offsets in ${name} do not rise from 0 to ${end}; prepare the data set again`,
    );
  return offsets;
}
