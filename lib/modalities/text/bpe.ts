import { MotError } from '../../errors.js';
import type { SpanRule, Tokenizer } from '../tokenizer.js';
import { MinHeap } from './heap.js';
import { BYTE_CHARACTER, tokenBytes, words } from './pretokenize.js';
import { trainBpe, type BpeModel, type BpeOptions } from './train_bpe.js';
import { WordMemory } from './word_memory.js';

/** Places in a word are below it, so that (merge, place) is one exact number. */
const PLACES = 2 ** 28;

/** Byte-level BPE as in GPT-2. Any text has ids; a lone surrogate becomes U+FFFD, as in UTF-8. */
export class TextTokenizer implements Tokenizer<string> {
  readonly modality = 'text';
  readonly size: number;
  readonly #model: BpeModel;
  readonly #byteId: Int32Array;
  readonly #bytes: Uint8Array[];
  /** Pair of ids, as left * size + right, to the place of its merge; and the token that each merge makes. */
  readonly #rank = new Map<number, number>();
  readonly #merged: Int32Array;
  readonly #memory = new WordMemory((word) => this.#encodeWord(word));
  /** Ids of the words that are taken whole. */
  readonly #whole = new Map<string, number>();

  /**
   * Checks the model: all bytes are tokens, tokens are distinct, merges name tokens.
   *
   * @param options `wholeWords`: a word that is a token has that id, whatever the merges make of it (`ignore_merges` of
   *   Hugging Face). Default false.
   */
  constructor(model: BpeModel, options: { wholeWords?: boolean } = {}) {
    this.#model = model;
    this.size = model.tokens.length;
    const ids = new Map(model.tokens.map((token, id) => [token, id]));
    if (ids.size !== this.size) throw new MotError('ERR_FILE_FORMAT', 'text tokenizer: two ids have the same token');
    this.#byteId = Int32Array.from(BYTE_CHARACTER, (character, byte) => {
      const id = ids.get(character);
      if (id === undefined) throw new MotError('ERR_FILE_FORMAT', `text tokenizer: byte ${byte} has no token`);
      return id;
    });
    this.#bytes = model.tokens.map((token) => {
      const bytes = tokenBytes(token);
      if (bytes === undefined || bytes.length === 0) {
        throw new MotError('ERR_FILE_FORMAT', `text tokenizer: token ${JSON.stringify(token)} is not made of bytes`);
      }
      return bytes;
    });
    this.#merged = Int32Array.from(model.merges, ([left, right], rank) => {
      const id = ids.get(`${model.tokens[left]}${model.tokens[right]}`);
      if (id === undefined) throw new MotError('ERR_FILE_FORMAT', `text tokenizer: merge ${rank} makes no known token`);
      const pair = left * this.size + right;
      if (!this.#rank.has(pair)) this.#rank.set(pair, rank);
      return id;
    });
    if (options.wholeWords) {
      const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
      this.#bytes.forEach((bytes, id) => {
        try {
          this.#whole.set(decoder.decode(bytes), id);
        } catch {
          // A part of a character is no word.
        }
      });
    }
  }

  /** Learns the vocabulary from texts. Deterministic. */
  static train(texts: Iterable<string>, options: BpeOptions): TextTokenizer {
    return new TextTokenizer(trainBpe(texts, options));
  }

  encode(text: string): Int32Array {
    return this.encodeWords(words(text));
  }

  /** Ids of a text that is cut into words already. */
  encodeWords(list: readonly string[]): Int32Array {
    return this.#memory.encode(list);
  }

  /** Bytes that are not UTF-8 (of an incomplete character) become U+FFFD. */
  decode(ids: ArrayLike<number>): string {
    const parts = Array.from(ids, (id, at) => {
      const bytes = this.#bytes[id];
      if (bytes === undefined) throw new MotError('ERR_ARGUMENT', `text id ${id} at ${at} is not in [0, ${this.size})`);
      return bytes;
    });
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(parts));
  }

  /** Anything, and the text may end anywhere. */
  rule(): SpanRule {
    return { begin: 0, end: this.size, mayEnd: true };
  }

  /** The vocabulary. */
  get model(): Readonly<BpeModel> {
    return this.#model;
  }

  #encodeWord(word: string): Int32Array {
    const whole = this.#whole.get(word);
    return whole === undefined ? this.#mergeWord(word) : Int32Array.of(whole);
  }

  /**
   * Applies merges in their order, from the left. Tokens are a linked list over the places of their first bytes; the
   * heap holds (merge, place) of neighbouring pairs, some outdated: their pair is looked at again when they come up.
   */
  #mergeWord(word: string): Int32Array {
    const ids = Int32Array.from(Buffer.from(word, 'utf8'), (byte) => this.#byteId[byte]!);
    const length = ids.length;
    const next = Int32Array.from(ids, (_, i) => i + 1);
    const previous = Int32Array.from(ids, (_, i) => i - 1);
    const heap = new MinHeap();
    const offer = (place: number): void => {
      if (place < 0 || next[place]! >= length) return;
      const rank = this.#rank.get(ids[place]! * this.size + ids[next[place]!]!);
      if (rank !== undefined) heap.push(rank * PLACES + place);
    };
    for (let i = 0; i + 1 < length; i++) offer(i);
    while (heap.size > 0) {
      const item = heap.pop();
      const place = item % PLACES;
      const rank = Math.floor(item / PLACES);
      const other = next[place]!;
      if (ids[place]! < 0 || other >= length) continue;
      if (this.#rank.get(ids[place]! * this.size + ids[other]!) !== rank) continue;
      ids[place] = this.#merged[rank]!;
      ids[other] = -1;
      next[place] = next[other]!;
      if (next[place]! < length) previous[next[place]!] = place;
      offer(previous[place]!);
      offer(place);
    }
    return ids.filter((id) => id >= 0);
  }
}
