import { Tokenizer as HubModel } from '@huggingface/tokenizers';
import { MotError } from '../../errors.js';
import type { SpanRule, Tokenizer } from '../tokenizer.js';
import { AddedTokens, type AddedToken, type Piece } from './added_tokens.js';
import { TextTokenizer } from './bpe.js';
import { bpeOfJson } from './bpe_json.js';
import { words } from './pretokenize.js';
import { concatIds, WordMemory } from './word_memory.js';

/** One step of a file's `pre_tokenizer`. */
interface Step {
  type?: string;
  pretokenizers?: Step[];
  use_regex?: boolean;
  add_prefix_space?: boolean;
  replacement?: string;
  split?: boolean;
}

/** What is used of a `tokenizer.json` here; the rest is the library's. */
interface TokenizerFile {
  added_tokens: AddedToken[];
  normalizer?: { type?: string; handle_chinese_chars?: boolean } | null;
  pre_tokenizer?: Step | null;
  model: { type?: string; vocab: unknown; ignore_merges?: boolean };
}

/** Cuts a stretch of text into words, which the model takes one by one. `first`: nothing stands before it. */
type Cut = (text: string, first: boolean) => string[];

/** Ideographs beyond the first plane, as BERT lists them. */
const RARE_IDEOGRAPHS =
  /[\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;

/**
 * Any tokenizer of a Hugging Face `tokenizer.json`, with the ids of the reference library. Ids that the file leaves out
 * decode to nothing. Special tokens that stand in a text are single ids; none are added to it.
 *
 * The library's normalizer, pre-tokenizer and model do the work; ids are remembered word by word, and byte-level BPE is
 * TextTokenizer's.
 */
export class HubTextTokenizer implements Tokenizer<string> {
  readonly modality = 'text';
  readonly size: number;
  /** The file as it was read. */
  readonly json: string;
  readonly #hub: HubModel;
  readonly #normalize: (text: string) => string;
  /** Added tokens that are looked for in the text as it is, and once it is normalized. */
  readonly #raw: AddedTokens;
  readonly #normalized: AddedTokens;
  readonly #cut: Cut;
  readonly #encodeWords: (words: readonly string[]) => Int32Array;

  /** @throws MotError ERR_FILE_FORMAT. */
  constructor(json: string) {
    this.json = json;
    try {
      const file = JSON.parse(json) as TokenizerFile;
      const bytes = byteLevel(file);
      this.#hub = new HubModel(bytes ? { ...file, pre_tokenizer: bytes.before } : file, {});
      this.#normalize = this.#normalizer(file);
      [this.#raw, this.#normalized] = this.#addedTokens(file.added_tokens);
      const { pre_tokenizer: cutter } = this.#hub;
      const cut: Cut = (text, first) =>
        cutter === null ? [text] : cutter.pre_tokenize(text, { section_index: first ? 0 : 1 });
      if (bytes) {
        this.#cut = (text, first) => bytes.cut(cut(text, first));
        this.#encodeWords = (list) => bytes.tokenizer.encodeWords(list);
      } else {
        const boundary = wordBoundary(file);
        const memory = new WordMemory((word) => this.#encodeWord(word));
        this.#cut = boundary ? (text, first) => cut(text, first).flatMap((part) => part.split(boundary)) : cut;
        this.#encodeWords = (list) => memory.encode(list);
      }
    } catch (cause) {
      throw new MotError('ERR_FILE_FORMAT', `tokenizer.json cannot be used: ${(cause as Error).message}`, { cause });
    }
    let size = 0;
    for (const id of this.#hub.get_vocab(true).values()) size = Math.max(size, id + 1);
    if (size === 0) throw new MotError('ERR_FILE_FORMAT', 'tokenizer.json has no tokens');
    this.size = size;
  }

  encode(text: string): Int32Array {
    const parts: Int32Array[] = [];
    let length = 0;
    let first = true;
    const take = (pieces: Piece[], encode: (text: string) => void): void => {
      for (const piece of pieces) {
        if (typeof piece === 'string') encode(piece);
        else {
          parts.push(Int32Array.of(piece));
          length++;
        }
        first = false;
      }
    };
    take(this.#raw.split(text), (stretch) =>
      take(this.#normalized.split(this.#normalize(stretch)), (piece) => {
        const ids = this.#encodeWords(this.#cut(piece, first));
        parts.push(ids);
        length += ids.length;
      }),
    );
    return parts.length === 1 ? parts[0]! : concatIds(parts, length);
  }

  decode(ids: ArrayLike<number>): string {
    const list = Array.from(ids);
    list.forEach((id, at) => {
      if (!(id >= 0 && id < this.size))
        throw new MotError('ERR_ARGUMENT', `text id ${id} at ${at} is not in [0, ${this.size})`);
    });
    const known = list.filter((id) => this.#hub.id_to_token(id) !== undefined);
    if (known.length === 0) return '';
    return this.#hub.decode(known, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
  }

  /** Anything, and the text may end anywhere. */
  rule(): SpanRule {
    return { begin: 0, end: this.size, mayEnd: true };
  }

  #normalizer({ normalizer }: TokenizerFile): (text: string) => string {
    const { normalizer: hub } = this.#hub;
    if (hub === null) return (text) => text;
    if (normalizer?.type !== 'BertNormalizer' || !normalizer.handle_chinese_chars) return (text) => hub.normalize(text);
    // The library sets only the ideographs of the first plane apart.
    return (text) => hub.normalize(text.replace(RARE_IDEOGRAPHS, ' $& '));
  }

  #addedTokens(tokens: readonly AddedToken[]): [raw: AddedTokens, normalized: AddedTokens] {
    const raw = new Map<string, AddedToken>();
    const normalized = new Map<string, AddedToken>();
    for (const token of tokens) {
      if (this.#hub.normalizer !== null && (token.normalized ?? !token.special))
        normalized.set(this.#normalize(token.content), token);
      else raw.set(token.content, token);
    }
    return [new AddedTokens(raw), new AddedTokens(normalized)];
  }

  #encodeWord(word: string): Int32Array {
    const model = this.#hub.model!;
    return Int32Array.from(model._call([word]), (token) => {
      const id = model.tokens_to_ids.get(token) ?? model.unk_token_id;
      if (id === undefined)
        throw new MotError(
          'ERR_DATA',
          `the tokenizer has no token for ${JSON.stringify(token)}, and none for unknown ones`,
        );
      return id;
    });
  }
}

/**
 * Byte-level BPE of a file: what its pre-tokenizer does before the bytes, how words are cut then, and their tokenizer.
 * Undefined for every other file.
 */
function byteLevel(
  file: TokenizerFile,
): { before: Step | null; cut: (parts: string[]) => string[]; tokenizer: TextTokenizer } | undefined {
  const { pre_tokenizer: steps, model } = file;
  const list = steps?.type === 'Sequence' ? (steps.pretokenizers ?? []) : steps ? [steps] : [];
  const last = list.at(-1);
  if (last?.type !== 'ByteLevel' || list.slice(0, -1).some(({ type }) => type === 'ByteLevel')) return undefined;
  let tokenizer: TextTokenizer;
  try {
    tokenizer = new TextTokenizer(bpeOfJson(model), { wholeWords: model.ignore_merges ?? false });
  } catch {
    // A vocabulary that is not one of bytes alone: the library takes it.
    return undefined;
  }
  const before = list.length > 1 ? { type: 'Sequence', pretokenizers: list.slice(0, -1) } : null;
  const space = (part: string): string => (part.startsWith(' ') ? part : ` ${part}`);
  const cut = (parts: string[]): string[] => {
    const spaced = last.add_prefix_space ? parts.map(space) : parts;
    return last.use_regex === false ? spaced : spaced.flatMap(words);
  };
  return { before, cut, tokenizer };
}

/** Where a model's words can be cut further without another result, so that they come again. */
function wordBoundary({ pre_tokenizer: step, model }: TokenizerFile): RegExp | undefined {
  // SentencePiece's mark of a space. The library does not cut there, as the reference does unless told not to.
  if (step?.type === 'Metaspace' && step.split !== false) return boundaryBefore(step.replacement ?? '▁');
  // No token holds it behind another character, so no merge joins what stands before it with what follows.
  if (model.type !== 'BPE' || Object.keys(model.vocab as object).some((token) => /[^▁]▁/u.test(token)))
    return undefined;
  return /(?<=[^▁])(?=▁)/u;
}

/** Every place before a character. */
function boundaryBefore(character: string): RegExp {
  return new RegExp(`(?=\\u{${character.codePointAt(0)!.toString(16)}})`, 'u');
}
