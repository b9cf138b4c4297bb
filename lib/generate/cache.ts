import { imageSpans } from '../data/latents.js';
import { joinDocuments, type ImageMask } from '../data/packer.js';
import { MotError } from '../errors.js';
import type { Document } from '../model/batch.js';
import type { CallOptions, DecodeBatch, Model, WeightKind } from '../model/model.js';

/** A sequence in the KV cache: a range of its slots, filled from the first on. */
export interface CachedSequence {
  /** First slot. */
  slot: number;
  /** Tokens in the cache: the position of the next one. */
  length: number;
}

/** Tokens that come next in a sequence. */
export interface Piece {
  sequence: CachedSequence;
  document: Document;
}

/**
 * A batch that puts pieces behind what their sequences have in the cache; pieces are in the order of their slots. The
 * sequences' lengths stay: add the piece's when it is there for good.
 */
export function cacheBatch(pieces: readonly Piece[], imageMask?: ImageMask): DecodeBatch {
  const {
    target: _,
    targetModality: __,
    ...batch
  } = joinDocuments(
    pieces.map(({ document }) => document),
    Infinity,
    imageMask,
  );
  const slot = new Int32Array(batch.token.length);
  let begin = 0;
  for (const { sequence, document } of pieces) {
    const end = begin + document.token.length;
    const shift = sequence.slot + sequence.length - begin;
    for (let i = begin; i < end; i++) {
      slot[i] = i + shift;
      batch.position[i]! += sequence.length;
      batch.kvStart[i] = sequence.slot;
      batch.kvEnd[i]! += shift;
    }
    begin = end;
  }
  return { ...batch, slot };
}

/** What every call for a sequence has. */
export interface CacheCall extends CallOptions {
  /** Default `raw`. */
  weights?: WeightKind;
}

/**
 * Puts a whole prompt into the cache, in parts of what one call takes; images are never parted.
 *
 * @returns The logits of its last token.
 * @throws MotError ERR_LIMIT for an image of more tokens than one call takes.
 */
export async function prefill(
  model: Model,
  sequence: CachedSequence,
  prompt: Document,
  options: CacheCall & { imageMask?: ImageMask | undefined } = {},
): Promise<Float32Array> {
  const { imageMask, ...call } = options;
  const spans = prompt.patchRow ? imageSpans(prompt.patchRow) : [];
  const { length } = prompt.token;
  let logits: Float32Array = new Float32Array(0);
  for (let begin = 0; begin < length;) {
    let end = Math.min(begin + model.limits.tokens, length);
    const cut = spans.find(([first, behind]) => first < end && behind > end);
    if (cut) end = cut[0];
    if (end <= begin)
      throw new MotError(
        'ERR_LIMIT',
        `an image of the prompt has ${cut![1] - cut![0]} patches; create the model with at least as many tokens (${model.limits.tokens}).`,
      );
    const document = part(prompt, begin, end);
    const batch = cacheBatch([{ sequence, document }], imageMask);
    logits = await model.decode(batch, Int32Array.of(end - begin - 1), call);
    sequence.length += end - begin;
    begin = end;
  }
  return logits;
}

/** Places [begin, end) of a document, with the latents that stand there. */
function part({ token, modality, latent, patchRow, timestep }: Document, begin: number, end: number): Document {
  const cut = (values: ArrayLike<number>): Int32Array => Int32Array.from(values).subarray(begin, end);
  const tokens = { token: cut(token), modality: cut(modality) };
  if (latent === undefined || patchRow === undefined) return tokens;
  const rows = patchRow.reduce((sum, row) => sum + (row >= 0 ? 1 : 0), 0);
  const width = rows > 0 ? latent.length / rows : 0;
  const here = cut(patchRow);
  const kept = here.filter((row) => row >= 0);
  const values = new Float32Array(kept.length * width);
  kept.forEach((row, i) => values.set(latent.subarray(row * width, (row + 1) * width), i * width));
  let next = 0;
  const image = imageSpans(patchRow).flatMap(([first], i) => (first >= begin && first < end ? [i] : []));
  return {
    ...tokens,
    latent: values,
    patchRow: here.map((row) => (row >= 0 ? next++ : -1)),
    ...(timestep ? { timestep: Int32Array.from(image, (i) => timestep[i]!) } : {}),
  };
}
