import { MotError } from '../errors.js';
import type { Batch, Document } from '../model/batch.js';
import type { DocumentSource } from './dataset.js';
import { Packer, type CountedBatch, type PackOptions } from './packer.js';
import { Permutation } from './permutation.js';

/**
 * Makes of a document what is packed, such as one with noise. It follows from its arguments alone: the document, its index
 * in the source, and the epoch.
 */
export type DocumentTransform = (document: Document, index: number, epoch: number) => Document;

/** Options of a Loader. */
export interface LoaderOptions extends PackOptions {
  /** What is packed of each document. Default: the document as it is. */
  transform?: DocumentTransform;
  /** Of the order of documents. Default 0. */
  seed?: number;
  /** False: the source's own order, every epoch. Default true. */
  shuffle?: boolean;
}

/**
 * An endless stream of packed batches over a source. Every epoch goes through all documents in its own keyed order. A
 * batch follows from the cursor alone (the number of documents taken before it), so one integer resumes the stream.
 */
export class Loader {
  readonly #source: DocumentSource;
  readonly #options: LoaderOptions;
  readonly #packer: Packer;
  readonly #orders = new Map<number, Permutation>();

  constructor(source: DocumentSource, options: LoaderOptions) {
    if (source.documents === 0)
      throw new MotError('ERR_DATA', 'the data set has no documents to train on; prepare it again with more of them');
    this.#source = source;
    this.#options = options;
    this.#packer = new Packer(options);
  }

  /** Index in the source of the document that the stream takes at `cursor`. */
  documentAt(cursor: number): number {
    const { documents } = this.#source;
    const epoch = Math.floor(cursor / documents);
    const index = cursor % documents;
    if (this.#options.shuffle === false) return index;
    let order = this.#orders.get(epoch);
    if (order === undefined) {
      // The stream moves forward: at most this epoch and the next are in use.
      for (const old of this.#orders.keys()) if (old < epoch - 1) this.#orders.delete(old);
      order = new Permutation(documents, this.#options.seed ?? 0, `epoch.${epoch}`);
      this.#orders.set(epoch, order);
    }
    return order.at(index);
  }

  /** The batch that begins at `cursor`, and the cursor of the next. */
  batchAt(cursor: number): CountedBatch {
    if (!Number.isSafeInteger(cursor) || cursor < 0)
      throw new MotError('ERR_ARGUMENT', `a cursor is a count of documents, got ${cursor}`);
    let next = cursor;
    while (this.#packer.add(this.#documentOf(next))) next++;
    return { microBatches: this.#packer.finish().microBatches, cursor: next };
  }

  /** The document that the stream takes at `cursor`, as it is packed. */
  #documentOf(cursor: number): Document {
    const index = this.documentAt(cursor);
    const document = this.#source.read(index);
    const epoch = Math.floor(cursor / this.#source.documents);
    return this.#options.transform?.(document, index, epoch) ?? document;
  }

  /** Batches from a cursor on, without end. */
  async *batches(cursor = 0): AsyncGenerator<CountedBatch, never, undefined> {
    for (;;) {
      const batch = this.batchAt(cursor);
      cursor = batch.cursor;
      yield batch;
    }
  }
}

/** The first `limit` documents of a source in their own order, once, as micro-batches: for validation. */
export function batchesOf(
  source: DocumentSource,
  options: Omit<LoaderOptions, 'seed' | 'shuffle'>,
  limit = Infinity,
): Batch[] {
  const packer = new Packer(options);
  const batches: Batch[] = [];
  for (let i = 0; i < Math.min(limit, source.documents); i++) {
    const read = source.read(i);
    const document = options.transform?.(read, i, 0) ?? read;
    if (packer.add(document)) continue;
    batches.push(...packer.finish().microBatches);
    packer.add(document);
  }
  batches.push(...packer.finish().microBatches);
  return batches;
}
