import { MotError } from '../errors.js';
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

/** One piece of a document as local ids of its modality. */
export interface Span {
  modality: string;
  ids: ArrayLike<number>;
}

/** Tokens of a document and the modality (index in the vocabulary) of each. */
export interface TokenSequence {
  token: Int32Array;
  modality: Uint8Array;
}

/**
 * `<bos>`, the spans, and `<eos>` where `end` is set. Text stands as it is, a span of another modality m between `<m>`
 * and `</m>`; these boundary tokens count as text.
 */
export function joinSpans(spans: readonly Span[], vocabulary: Vocabulary, end: boolean): TokenSequence {
  const text = vocabulary.modalities[0];
  let length = end ? 2 : 1;
  for (const { modality, ids } of spans) length += ids.length + (modality === text ? 0 : 2);
  const token = new Int32Array(length);
  const modality = new Uint8Array(length);
  let at = 0;
  token[at++] = vocabulary.special['<bos>']!;
  for (const span of spans) {
    const index = vocabulary.modalities.indexOf(span.modality);
    if (index < 0) throw unknownModality(span.modality, vocabulary);
    const range = vocabulary.ranges[span.modality]!;
    if (index > 0) token[at++] = vocabulary.special[`<${span.modality}>`]!;
    for (let i = 0; i < span.ids.length; i++, at++) {
      const id = span.ids[i]!;
      if (!(id >= 0 && id < range.end - range.begin)) {
        throw new MotError('ERR_ARGUMENT', `${span.modality} id ${id} is not in [0, ${range.end - range.begin})`);
      }
      token[at] = range.begin + id;
      modality[at] = index;
    }
    if (index > 0) token[at++] = vocabulary.special[`</${span.modality}>`]!;
  }
  if (end) token[at] = vocabulary.special['<eos>']!;
  return { token, modality };
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

/** Tokens of the beginning of a document: `<bos>` and the segments. For prompts. */
export function encodeSegments(
  segments: readonly Segment[],
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
): TokenSequence {
  return joinSpans(encodeSpans(segments, tokenizers, vocabulary), vocabulary, false);
}

/** Tokens of a whole document: `<bos>`, the segments, `<eos>`. */
export function encodeDocument(
  segments: readonly Segment[],
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
): TokenSequence {
  return joinSpans(encodeSpans(segments, tokenizers, vocabulary), vocabulary, true);
}

/** The segments of a token sequence, whole or not; neighbouring texts come back as one. */
export function decodeDocument(tokens: ArrayLike<number>, tokenizers: Tokenizers, vocabulary: Vocabulary): Segment[] {
  return splitSpans(tokens, vocabulary).map(({ modality, ids }) => {
    const tokenizer = tokenizers[modality];
    if (tokenizer === undefined) throw new MotError('ERR_ARGUMENT', `no tokenizer is given for modality ${modality}`);
    return { [modality]: tokenizer.decode(ids) } as Segment;
  });
}

function encodeSpans(segments: readonly Segment[], tokenizers: Tokenizers, vocabulary: Vocabulary): Span[] {
  return segments.map((segment) => {
    const entries = Object.entries(segment);
    const [modality, raw] = entries[0] ?? [];
    if (entries.length !== 1 || modality === undefined) {
      throw new MotError(
        'ERR_ARGUMENT',
        `a segment has exactly one key, its modality; got {${Object.keys(segment).join(', ')}}`,
      );
    }
    const tokenizer = Object.hasOwn(tokenizers, modality) ? tokenizers[modality] : undefined;
    if (tokenizer === undefined) throw unknownModality(modality, vocabulary);
    return { modality, ids: tokenizer.encode(raw) };
  });
}

function unknownModality(modality: string, vocabulary: Vocabulary): MotError {
  return new MotError(
    'ERR_ARGUMENT',
    `no modality ${modality}: the vocabulary has ${vocabulary.modalities.join(', ')}`,
  );
}
