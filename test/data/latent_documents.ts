import type { Document } from '../../lib/model/batch.js';
import { joinSpans, type Span } from '../../lib/modalities/document.js';
import { makeVocabulary } from '../../lib/modalities/vocabulary.js';

export const PATCH_DIM = 3;

/** Text of eight ids and images of patches with three numbers; specials: bos 0, eos 1, begin 2, end 3; patch id 12. */
export const vocabulary = makeVocabulary(
  [
    ['text', 8],
    ['image', 1],
  ],
  { image: PATCH_DIM },
);

/** A document of spans: a string of digits is text, a number an image of so many patches; all latents differ. */
export function latentDocument(parts: readonly (string | number)[], first = 0): Document & { latent: Float32Array } {
  let next = first;
  const spans = parts.map((part): Span => {
    if (typeof part === 'string') return { modality: 'text', ids: [...part].map(Number) };
    return { modality: 'image', latent: Float32Array.from({ length: part * PATCH_DIM }, () => next++) };
  });
  return joinSpans(spans, vocabulary, true) as Document & { latent: Float32Array };
}

/** So many documents, each with a picture of two patches, caption first but for every fourth. */
export function captioned(count: number): (Document & { token: Int32Array; modality: Uint8Array })[] {
  return Array.from({ length: count }, (_, i) => {
    const text = '1234567'.slice(0, 1 + (i % 7));
    return latentDocument(i % 4 === 3 ? [2, text] : [text, 2], i) as ReturnType<typeof captioned>[number];
  });
}
