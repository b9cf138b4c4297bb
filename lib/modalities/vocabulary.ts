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
  /**
   * Width of a patch of each continuous modality; absent where all are discrete. Such a modality has one id: it stands at
   * the place of every patch, whose values come from the latents of the document, and is never predicted.
   */
  continuous?: Record<string, number>;
}

/**
 * Lays out the id space.
 *
 * @param sizes [modality, number of local ids], text first; a continuous modality has one id.
 * @param continuous Width of a patch of each continuous modality. Default: none.
 */
export function makeVocabulary(
  sizes: [modality: string, size: number][],
  continuous: Record<string, number> = {},
): Vocabulary {
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
  const vocabulary = { size: next, modalities: sizes.map(([modality]) => modality), special, ranges };
  return Object.keys(continuous).length > 0 ? { ...vocabulary, continuous } : vocabulary;
}

/** The continuous modality of a vocabulary: its name, index, the id at the place of a patch, and width of a patch. */
export interface ContinuousModality {
  name: string;
  index: number;
  token: number;
  patchDim: number;
  /** Tokens that stand before and after an image; they belong to text. */
  begin: number;
  end: number;
}

/** The vocabulary's continuous modality, or undefined where all are discrete. There is one at most. */
export function continuousModality(vocabulary: Vocabulary): ContinuousModality | undefined {
  const [entry] = Object.entries(vocabulary.continuous ?? {});
  if (entry === undefined) return undefined;
  const [name, patchDim] = entry;
  return {
    name,
    index: vocabulary.modalities.indexOf(name),
    token: vocabulary.ranges[name]!.begin,
    patchDim,
    begin: vocabulary.special[`<${name}>`]!,
    end: vocabulary.special[`</${name}>`]!,
  };
}

/** Index of the modality that a token id belongs to (special tokens: 0, text). */
export function modalityOfToken(vocabulary: Vocabulary, token: number): number {
  for (let m = 1; m < vocabulary.modalities.length; m++) {
    const range = vocabulary.ranges[vocabulary.modalities[m]!]!;
    if (token >= range.begin && token < range.end) return m;
  }
  return 0;
}
