import { MotError } from '../errors.js';
import { isPredicted, type Batch, type Document } from '../model/batch.js';
import { checkLatents, imageSpans, joinLatents } from './latents.js';

/** How documents are packed. */
export interface PackOptions {
  /** Sequences of a batch. */
  sequences: number;
  /** Tokens that a sequence holds at most; no document may be longer. */
  seqLen: number;
  /** Sequences of a micro-batch, a divisor of `sequences`. Default: all of them. */
  microSequences?: number;
  /** Tokens that a token sees at most, itself included. Default: all of its document up to itself. */
  window?: number;
  /** Whether the patches of an image see the whole image, or only those before them. Default `bidirectional`. */
  imageMask?: ImageMask;
}

/** What a patch sees of its own image: all of it, or what comes before, itself included. */
export type ImageMask = 'bidirectional' | 'causal';

/** A packed batch, in micro-batches of whole sequences. */
export interface PackedBatch {
  microBatches: Batch[];
  /** Documents in it. */
  documents: number;
}

/**
 * Fills the sequences of one batch with whole documents: a document goes into the first sequence that has room for it.
 * Sequences are not padded: a micro-batch holds the tokens of its documents and nothing else.
 */
export class Packer {
  readonly #options: Required<PackOptions>;
  #sequences: Document[][] = [];
  #room: number[] = [];
  #documents = 0;

  constructor(options: PackOptions) {
    const { sequences, seqLen, microSequences = sequences, window = seqLen, imageMask = 'bidirectional' } = options;
    for (const [name, value] of Object.entries({ sequences, seqLen, microSequences, window }))
      if (!Number.isInteger(value) || value < 1)
        throw new MotError('ERR_ARGUMENT', `packing needs a positive integer for ${name}, got ${value}`);
    if (sequences % microSequences !== 0)
      throw new MotError(
        'ERR_ARGUMENT',
        `${sequences} sequences do not divide into micro-batches of ${microSequences}; choose a divisor`,
      );
    this.#options = { sequences, seqLen, microSequences, window, imageMask };
    this.#reset();
  }

  /** Documents taken since the last batch. */
  get documents(): number {
    return this.#documents;
  }

  /**
   * Takes a document, or returns false when no sequence has room for it: then it opens the next batch.
   *
   * @throws MotError ERR_DATA for an empty document and one that is longer than a sequence.
   */
  add(document: Document): boolean {
    const length = document.token.length;
    if (length !== document.modality.length)
      throw new MotError('ERR_DATA', `a document has ${length} tokens and ${document.modality.length} modalities`);
    if (length === 0) throw new MotError('ERR_DATA', 'a document has no tokens; leave it out');
    checkLatents(document);
    if (length > this.#options.seqLen)
      throw new MotError(
        'ERR_DATA',
        `a document has ${length} tokens, a sequence holds ${this.#options.seqLen}: raise seq_len or shorten the document`,
      );
    const place = this.#room.findIndex((room) => room >= length);
    if (place < 0) return false;
    this.#sequences[place]!.push(document);
    this.#room[place]! -= length;
    this.#documents++;
    return true;
  }

  /** The batch of what was taken, and a fresh start. Micro-batches without documents are left out. */
  finish(): PackedBatch {
    const { sequences, microSequences, window, imageMask } = this.#options;
    const microBatches: Batch[] = [];
    for (let begin = 0; begin < sequences; begin += microSequences) {
      const documents = this.#sequences.slice(begin, begin + microSequences).flat();
      if (documents.length > 0) microBatches.push(joinDocuments(documents, window, imageMask));
    }
    const documents = this.#documents;
    this.#reset();
    return { microBatches, documents };
  }

  #reset(): void {
    const { sequences, seqLen } = this.#options;
    this.#sequences = Array.from({ length: sequences }, () => []);
    this.#room = new Array<number>(sequences).fill(seqLen);
    this.#documents = 0;
  }
}

/**
 * Documents one after the other: each sees only itself, causally, but for the patches of an image under a bidirectional
 * mask. Each token's target is the next of its document; there is none at patches and where a patch comes next.
 */
export function joinDocuments(
  documents: readonly Document[],
  window = Infinity,
  imageMask: ImageMask = 'bidirectional',
): Batch {
  const length = documents.reduce((sum, { token }) => sum + token.length, 0);
  const array = (): Int32Array<ArrayBuffer> => new Int32Array(length);
  const batch = {
    token: array(),
    modality: array(),
    position: array(),
    kvStart: array(),
    kvEnd: array(),
    target: array(),
    targetModality: array(),
  };
  let begin = 0;
  for (const document of documents) {
    const { token, modality, patchRow } = document;
    const end = begin + token.length;
    batch.token.set(token, begin);
    batch.modality.set(modality, begin);
    for (let i = begin; i < end; i++) {
      const predicts = i + 1 < end && isPredicted(document, i + 1 - begin);
      batch.position[i] = i - begin;
      batch.kvStart[i] = Math.max(begin, i + 1 - window);
      batch.kvEnd[i] = i + 1;
      batch.target[i] = predicts ? batch.token[i + 1]! : -1;
      batch.targetModality[i] = predicts ? batch.modality[i + 1]! : 0;
    }
    if (patchRow && imageMask === 'bidirectional')
      for (const [first, last] of imageSpans(patchRow)) {
        // A window is never raised inside an image.
        batch.kvStart.fill(batch.kvStart[begin + first]!, begin + first, begin + last);
        batch.kvEnd.fill(begin + last, begin + first, begin + last);
      }
    begin = end;
  }
  return { ...batch, ...joinLatents(documents) };
}

/** A batch of an iterator, and how many documents were taken up to its end. */
export interface CountedBatch {
  microBatches: Batch[];
  cursor: number;
}

/**
 * Packs documents from an iterator of any kind, in its order; the last batch holds what is left.
 *
 * @example
 * for await (const { microBatches } of packDocuments(documents, { sequences: 8, seqLen: 256 }))
 *   await model.step(microBatches, { lr: 1e-3 });
 */
export async function* packDocuments(
  documents: Iterable<Document> | AsyncIterable<Document>,
  options: PackOptions,
): AsyncGenerator<CountedBatch, void, undefined> {
  const packer = new Packer(options);
  let cursor = 0;
  const finish = (): CountedBatch => {
    const { microBatches, documents: taken } = packer.finish();
    cursor += taken;
    return { microBatches, cursor };
  };
  for await (const document of documents) {
    if (packer.add(document)) continue;
    yield finish();
    packer.add(document);
  }
  if (packer.documents > 0) yield finish();
}
