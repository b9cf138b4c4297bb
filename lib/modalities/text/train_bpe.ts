import { MotError } from '../../errors.js';
import { ALPHABET, BYTE_CHARACTER, words } from './pretokenize.js';

/** A byte-level BPE vocabulary. */
export interface BpeModel {
  /** Token of each id. */
  tokens: string[];
  /** Pairs of ids in the order in which they are merged. */
  merges: [left: number, right: number][];
}

/** Options of trainBpe(). */
export interface BpeOptions {
  /** Tokens at most, the 256 bytes included. Fewer when the texts have no more pairs to merge. */
  size: number;
  /** A pair must occur this often to be merged. Default 2. */
  minFrequency?: number;
}

/** Pair (a, b) as one number: ids are below 2^24. */
const PAIR = 2 ** 24;

/**
 * Learns merges: again and again the most frequent pair of neighbouring tokens becomes a token (among equally frequent
 * ones the pair with the smaller ids). Works on distinct words and their counts; counts of pairs are kept up to date
 * word by word. Gives the merges that Hugging Face's `BpeTrainer` gives. Deterministic.
 */
export function trainBpe(texts: Iterable<string>, options: BpeOptions): BpeModel {
  const { size, minFrequency = 2 } = options;
  if (!Number.isInteger(size) || size < ALPHABET.length || size >= PAIR) {
    throw new MotError('ERR_ARGUMENT', `trainBpe: expected a size of at least ${ALPHABET.length}, got ${size}`);
  }
  const tokens = [...ALPHABET];
  const idOf = new Map(tokens.map((token, id) => [token, id]));
  const merges: [number, number][] = [];
  const corpus = new PairCounts(texts);
  while (tokens.length < size) {
    const pair = corpus.mostFrequent(minFrequency);
    if (pair === undefined) break;
    const left = Math.floor(pair / PAIR);
    const right = pair % PAIR;
    const token = tokens[left]! + tokens[right]!;
    // Two different pairs can spell the same token.
    let id = idOf.get(token);
    if (id === undefined) {
      id = tokens.length;
      tokens.push(token);
      idOf.set(token, id);
    }
    merges.push([left, right]);
    corpus.merge(left, right, id);
  }
  return { tokens, merges };
}

/** Counts of neighbouring pairs over distinct words. */
class PairCounts {
  /** Token ids and number of occurrences of each distinct word. */
  readonly #words: number[][] = [];
  readonly #occurrences: number[] = [];
  readonly #count = new Map<number, number>();
  /** Words that hold a pair, or once held it. */
  readonly #wordsOf = new Map<number, Set<number>>();
  /** Pairs by count, most frequent first. An entry may overstate the count of its pair, never understate it. */
  readonly #queue = new PairQueue();

  constructor(texts: Iterable<string>) {
    const counts = new Map<string, number>();
    for (const text of texts) for (const word of words(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
    const byteId = BYTE_CHARACTER.map((character) => ALPHABET.indexOf(character));
    const encoder = new TextEncoder();
    for (const [word, occurrences] of counts) {
      this.#words.push(Array.from(encoder.encode(word), (byte) => byteId[byte]!));
      this.#occurrences.push(occurrences);
    }
    this.#words.forEach((_, word) => this.#add(word, 1));
    for (const [pair, count] of this.#count) this.#queue.push(pair, count);
  }

  /** The most frequent pair that occurs `minFrequency` times or more; it is taken from the queue. */
  mostFrequent(minFrequency: number): number | undefined {
    for (let top = this.#queue.pop(); top !== undefined; top = this.#queue.pop()) {
      const count = this.#count.get(top.pair) ?? 0;
      if (count < Math.max(1, minFrequency)) continue;
      if (count === top.count) return top.pair;
      this.#queue.push(top.pair, count);
    }
    return undefined;
  }

  /** Replaces the pair by token `id` in all words, from the left. */
  merge(left: number, right: number, id: number): void {
    const pair = left * PAIR + right;
    const grown = new Set<number>();
    for (const word of this.#wordsOf.get(pair) ?? []) {
      this.#add(word, -1);
      const old = this.#words[word]!;
      const merged: number[] = [];
      for (let i = 0; i < old.length; i++) {
        if (old[i] === left && old[i + 1] === right) {
          merged.push(id);
          i++;
        } else {
          merged.push(old[i]!);
        }
      }
      this.#words[word] = merged;
      this.#add(word, 1, grown, id);
    }
    this.#wordsOf.delete(pair);
    for (const other of grown) this.#queue.push(other, this.#count.get(other)!);
  }

  /** Adds or takes away the pairs of a word; pairs with token `id` are noted in `grown`. */
  #add(word: number, sign: 1 | -1, grown?: Set<number>, id?: number): void {
    const ids = this.#words[word]!;
    const change = sign * this.#occurrences[word]!;
    for (let i = 0; i + 1 < ids.length; i++) {
      const pair = ids[i]! * PAIR + ids[i + 1]!;
      this.#count.set(pair, (this.#count.get(pair) ?? 0) + change);
      if (sign < 0) continue;
      let set = this.#wordsOf.get(pair);
      if (set === undefined) this.#wordsOf.set(pair, (set = new Set()));
      set.add(word);
      if (ids[i] === id || ids[i + 1] === id) grown?.add(pair);
    }
  }
}

/** A binary heap of pairs: greatest count first, then smallest pair. */
class PairQueue {
  readonly #heap: { pair: number; count: number }[] = [];

  push(pair: number, count: number): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push({ pair, count });
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(heap[at]!, heap[parent]!)) break;
      [heap[at], heap[parent]] = [heap[parent]!, heap[at]!];
      at = parent;
    }
  }

  pop(): { pair: number; count: number } | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (heap.length === 0 || last === undefined) return top;
    heap[0] = last;
    for (let at = 0; ;) {
      let first = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < heap.length && before(heap[child]!, heap[first]!)) first = child;
      }
      if (first === at) return top;
      [heap[at], heap[first]] = [heap[first]!, heap[at]!];
      at = first;
    }
  }
}

function before(a: { pair: number; count: number }, b: { pair: number; count: number }): boolean {
  return a.count !== b.count ? a.count > b.count : a.pair < b.pair;
}
