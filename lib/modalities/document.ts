import { MotError } from '../errors.js';
import type { Document } from '../model/batch.js';
import type { Codecs } from './codec.js';
import type { Picture, Sound, Tokenizer } from './tokenizer.js';
import type { Vocabulary } from './vocabulary.js';

/**
 * Raw values of the built-in modalities. Own modalities are added by declaration merging:
 * `declare module 'mixture-of-transformers' { interface SegmentTypes { depth: DepthMap } }`.
 */
export interface SegmentTypes {
  text: string;
  image: Picture;
  speech: Sound;
}

/** One piece of a document: `{ text }`, `{ image }`, `{ speech }`, or one of an own modality; exactly one key. */
export type Segment = { [M in keyof SegmentTypes]: Record<M, SegmentTypes[M]> }[keyof SegmentTypes];

/** Tokenizers by modality. */
export type Tokenizers = Record<string, Tokenizer<unknown>>;

/** One piece of a document: local ids of its modality, or the latents [R, P] of a continuous one. */
export type Span = { modality: string; ids: ArrayLike<number> } | { modality: string; latent: Float32Array };

/**
 * Tokens of a document and the modality (index in the vocabulary) of each; where the vocabulary has a continuous modality
 * also its latents, and the row of them that stands at each place.
 */
export interface TokenSequence extends Document {
  token: Int32Array;
  modality: Uint8Array;
}

/**
 * `<bos>`, the spans, and `<eos>` where `end` is set. Text stands as it is, a span of another modality m between `<m>`
 * and `</m>`; these boundary tokens count as text.
 *
 * @throws MotError ERR_ARGUMENT for a modality that the vocabulary has not, ids out of range, ids for a continuous
 *   modality and latents for a discrete one, latents of another width.
 */
export function joinSpans(spans: readonly Span[], vocabulary: Vocabulary, end: boolean): TokenSequence {
  const text = vocabulary.modalities[0];
  const places = spans.map((span) => placesOf(span, vocabulary));
  const length = places.reduce((sum, n, i) => sum + n + (spans[i]!.modality === text ? 0 : 2), end ? 2 : 1);
  const token = new Int32Array(length);
  const modality = new Uint8Array(length);
  let at = 0;
  token[at++] = vocabulary.special['<bos>']!;
  for (const span of spans) {
    const index = vocabulary.modalities.indexOf(span.modality);
    const range = vocabulary.ranges[span.modality]!;
    if (index > 0) token[at++] = vocabulary.special[`<${span.modality}>`]!;
    const ids = 'ids' in span ? span.ids : new Uint8Array(span.latent.length / vocabulary.continuous![span.modality]!);
    for (let i = 0; i < ids.length; i++, at++) {
      const id = ids[i]!;
      if (!(id >= 0 && id < range.end - range.begin)) {
        throw new MotError('ERR_ARGUMENT', `${span.modality} id ${id} is not in [0, ${range.end - range.begin})`);
      }
      token[at] = range.begin + id;
      modality[at] = index;
    }
    if (index > 0) token[at++] = vocabulary.special[`</${span.modality}>`]!;
  }
  if (end) token[at] = vocabulary.special['<eos>']!;
  if (vocabulary.continuous === undefined) return { token, modality };
  const latents = spans.flatMap((span) => ('latent' in span ? [span.latent] : []));
  const latent = new Float32Array(latents.reduce((sum, part) => sum + part.length, 0));
  let filled = 0;
  for (const part of latents) {
    latent.set(part, filled);
    filled += part.length;
  }
  return { token, modality, latent, patchRow: patchRows(modality, vocabulary) };
}

/** Row of the document's latents at each place, -1 for tokens; rows are in reading order. */
export function patchRows(modality: ArrayLike<number>, vocabulary: Vocabulary): Int32Array {
  let rows = 0;
  const continuous = vocabulary.modalities.map((name) => vocabulary.continuous?.[name] !== undefined);
  return Int32Array.from(modality, (m) => (continuous[m] ? rows++ : -1));
}

/** Tokens of a span without its boundary. Checks that it fits its modality. */
function placesOf(span: Span, vocabulary: Vocabulary): number {
  if (!vocabulary.modalities.includes(span.modality)) throw unknownModality(span.modality, vocabulary);
  const patchDim = vocabulary.continuous?.[span.modality];
  if ('ids' in span) {
    if (patchDim !== undefined)
      throw new MotError('ERR_ARGUMENT', `${span.modality} is continuous and has no ids: give its latents`);
    return span.ids.length;
  }
  if (patchDim === undefined)
    throw new MotError('ERR_ARGUMENT', `${span.modality} is discrete and has no latents: give its ids`);
  if (span.latent.length === 0 || span.latent.length % patchDim !== 0)
    throw new MotError(
      'ERR_ARGUMENT',
      `latents of ${span.modality} are whole patches of ${patchDim} numbers, got ${span.latent.length} numbers`,
    );
  return span.latent.length / patchDim;
}

/**
 * The spans of a token sequence. Special tokens end a span and are dropped, nothing after `<eos>` is read, empty spans
 * are left out; a span that is not closed, or not opened, holds what is there.
 */
export function splitSpans(tokens: ArrayLike<number>, vocabulary: Vocabulary): { modality: string; ids: number[] }[] {
  const spans: { modality: string; ids: number[] }[] = [];
  const ranges = vocabulary.modalities.map((modality) => ({ modality, ...vocabulary.ranges[modality]! }));
  let open: { modality: string; ids: number[] } | undefined;
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i]!;
    if (token === vocabulary.special['<eos>']) break;
    const range = ranges.find(({ begin, end }) => token >= begin && token < end);
    if (range === undefined) {
      if (!(token >= 0 && token < vocabulary.size)) {
        throw new MotError('ERR_ARGUMENT', `token ${token} at ${i} is not in [0, ${vocabulary.size})`);
      }
      open = undefined;
      continue;
    }
    if (open?.modality !== range.modality) spans.push((open = { modality: range.modality, ids: [] }));
    open.ids.push(token - range.begin);
  }
  return spans;
}

/** Tokens of the beginning of a document: `<bos>` and the segments. For prompts. Continuous modalities need `codecs`. */
export function encodeSegments(
  segments: readonly Segment[],
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
  codecs: Codecs = {},
): TokenSequence {
  return joinSpans(encodeSpans(segments, tokenizers, vocabulary, codecs), vocabulary, false);
}

/** Tokens of a whole document: `<bos>`, the segments, `<eos>`. */
export function encodeDocument(
  segments: readonly Segment[],
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
  codecs: Codecs = {},
): TokenSequence {
  return joinSpans(encodeSpans(segments, tokenizers, vocabulary, codecs), vocabulary, true);
}

/** What is left of a raw value after its modality's tokenizer, or codec, and back: the best that a model can show. */
export function roundTrip<Raw>(modality: string, raw: Raw, tokenizers: Tokenizers, codecs: Codecs): Raw {
  const codec = codecs[modality];
  if (codec) return codec.decode(codec.encode(raw)) as Raw;
  const tokenizer = tokenizers[modality]!;
  return tokenizer.decode(tokenizer.encode(raw)) as Raw;
}

/** The segments of a token sequence, whole or not; neighbouring texts come back as one. */
export function decodeDocument(tokens: ArrayLike<number>, tokenizers: Tokenizers, vocabulary: Vocabulary): Segment[] {
  return splitSpans(tokens, vocabulary).map(({ modality, ids }) => {
    if (vocabulary.continuous?.[modality] !== undefined)
      throw new MotError(
        'ERR_ARGUMENT',
        `${modality} is continuous: its tokens do not say what it is; decode its latents with its codec`,
      );
    const tokenizer = tokenizers[modality];
    if (tokenizer === undefined) throw new MotError('ERR_ARGUMENT', `no tokenizer is given for modality ${modality}`);
    return { [modality]: tokenizer.decode(ids) } as Segment;
  });
}

/** As encodeSegments, for tokenizers that may give promises. */
export async function encodeSegmentsAsync(
  segments: readonly Segment[],
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
  codecs: Codecs = {},
): Promise<TokenSequence> {
  const spans: Span[] = [];
  for (const segment of segments) {
    const span = spanOf(segment, tokenizers, vocabulary, codecs);
    spans.push('ids' in span ? { ...span, ids: await Promise.resolve(span.ids) } : span);
  }
  return joinSpans(spans, vocabulary, false);
}

function encodeSpans(
  segments: readonly Segment[],
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
  codecs: Codecs,
): Span[] {
  return segments.map((segment) => {
    const span = spanOf(segment, tokenizers, vocabulary, codecs);
    if ('ids' in span && typeof (span.ids as { then?: unknown }).then === 'function')
      throw new MotError(
        'ERR_UNSUPPORTED',
        `the tokenizer of ${span.modality} gives promises; use encodeSegmentsAsync or generateSpan`,
      );
    return span;
  });
}

function spanOf(segment: Segment, tokenizers: Tokenizers, vocabulary: Vocabulary, codecs: Codecs): Span {
  const entries = Object.entries(segment);
  const [modality, raw] = entries[0] ?? [];
  if (entries.length !== 1 || modality === undefined) {
    throw new MotError(
      'ERR_ARGUMENT',
      `a segment has exactly one key, its modality; got {${Object.keys(segment).join(', ')}}`,
    );
  }
  if (vocabulary.continuous?.[modality] !== undefined) {
    const codec = Object.hasOwn(codecs, modality) ? codecs[modality] : undefined;
    if (codec === undefined)
      throw new MotError('ERR_ARGUMENT', `${modality} is continuous: give its codec (loadCodecs reads it)`);
    return { modality, latent: codec.encode(raw) };
  }
  const tokenizer = Object.hasOwn(tokenizers, modality) ? tokenizers[modality] : undefined;
  if (tokenizer === undefined) throw unknownModality(modality, vocabulary);
  return { modality, ids: tokenizer.encode(raw) };
}

function unknownModality(modality: string, vocabulary: Vocabulary): MotError {
  return new MotError(
    'ERR_ARGUMENT',
    `no modality ${modality}: the vocabulary has ${vocabulary.modalities.join(', ')}`,
  );
}
