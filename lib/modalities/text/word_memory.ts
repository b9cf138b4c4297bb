/** Words whose ids are remembered; then the memory starts afresh. */
const REMEMBERED_WORDS = 50_000;

/** Longer words hardly come again. UTF-16 units. */
const LONGEST_REMEMBERED = 64;

/** Ids of words, found once: most words of a text have come before. */
export class WordMemory {
  readonly #encode: (word: string) => Int32Array;
  readonly #ids = new Map<string, Int32Array>();

  /** `encode` gives the ids of one word. */
  constructor(encode: (word: string) => Int32Array) {
    this.#encode = encode;
  }

  /** Ids of the words, one after the other. */
  encode(words: readonly string[]): Int32Array {
    let length = 0;
    const parts = words.map((word) => {
      const ids = this.#ids.get(word) ?? this.#add(word);
      length += ids.length;
      return ids;
    });
    return concatIds(parts, length);
  }

  #add(word: string): Int32Array {
    const ids = this.#encode(word);
    if (word.length <= LONGEST_REMEMBERED) {
      if (this.#ids.size >= REMEMBERED_WORDS) this.#ids.clear();
      this.#ids.set(word, ids);
    }
    return ids;
  }
}

/** The lists as one. `length`: that of all. */
export function concatIds(parts: readonly Int32Array[], length: number): Int32Array {
  const ids = new Int32Array(length);
  let at = 0;
  for (const part of parts) {
    // Most parts are an id or two: set() would cost more than it copies.
    for (const id of part) ids[at++] = id;
  }
  return ids;
}
