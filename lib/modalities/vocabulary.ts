/**
 * Token ids are one space: special tokens, then the text vocabulary, then one range for each other modality.
 * Boundary tokens (begin and end of a document, of an image, of speech) belong to the text tower.
 */
export interface Vocabulary {
  /** All ids are below it. */
  size: number;
  /** Modalities in the order of their indices; the first is text. */
  modalities: string[];
  /** Ids of special tokens by name: `<bos>`, `<eos>`, and `<m>`, `</m>` for every modality m but text. */
  special: Record<string, number>;
  /** Ids of each modality: [begin, end); local id = id - begin. */
  ranges: Record<string, { begin: number; end: number }>;
}

/** Lays out the id space. `sizes`: [modality, number of local ids], text first. */
export function makeVocabulary(sizes: [modality: string, size: number][]): Vocabulary {
  const special: Record<string, number> = {};
  let next = 0;
  special['<bos>'] = next++;
  special['<eos>'] = next++;
  for (const [modality] of sizes.slice(1)) {
    special[`<${modality}>`] = next++;
    special[`</${modality}>`] = next++;
  }
  const ranges: Vocabulary['ranges'] = {};
  for (const [modality, size] of sizes) {
    ranges[modality] = { begin: next, end: next + size };
    next += size;
  }
  return { size: next, modalities: sizes.map(([modality]) => modality), special, ranges };
}

/** Index of the modality that a token id belongs to (special tokens: 0, text). */
export function modalityOfToken(vocabulary: Vocabulary, token: number): number {
  for (let m = 1; m < vocabulary.modalities.length; m++) {
    const range = vocabulary.ranges[vocabulary.modalities[m]!]!;
    if (token >= range.begin && token < range.end) return m;
  }
  return 0;
}
