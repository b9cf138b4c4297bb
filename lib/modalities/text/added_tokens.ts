/** A token of a Hugging Face `tokenizer.json` that is found in the text before the model sees it. */
export interface AddedToken {
  id: number;
  content: string;
  /** Not where a letter, mark, digit or underscore is its neighbour. */
  single_word?: boolean;
  /** It takes the white space to its left, to its right. */
  lstrip?: boolean;
  rstrip?: boolean;
  special?: boolean;
  /** It is looked for in the normalized text. Default: unless it is special. */
  normalized?: boolean;
}

/** A stretch of text, or the id of an added token. */
export type Piece = string | number;

const WORD = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]';
const WORD_BEFORE = new RegExp(`${WORD}$`, 'u');
const WORD_AFTER = new RegExp(`^${WORD}`, 'u');
const SPACE = /\p{White_Space}/u;

/** Finds added tokens as Hugging Face's library does: from the left, the longest first. */
export class AddedTokens {
  readonly #tokens: ReadonlyMap<string, AddedToken>;
  readonly #pattern: RegExp | undefined;

  /** Tokens by the text to look for. */
  constructor(tokens: ReadonlyMap<string, AddedToken>) {
    this.#tokens = tokens;
    const contents = [...tokens.keys()].filter((content) => content !== '').sort((a, b) => b.length - a.length);
    // Without the flag u, as whole characters are looked for and half ones are none of them.
    if (contents.length > 0) this.#pattern = new RegExp(contents.map(escape).join('|'), 'g');
  }

  /** The text in pieces, none empty. */
  split(text: string): Piece[] {
    if (this.#pattern === undefined) return text === '' ? [] : [text];
    const pieces: Piece[] = [];
    let done = 0;
    for (const match of text.matchAll(this.#pattern)) {
      const token = this.#tokens.get(match[0])!;
      let begin = match.index;
      let end = begin + match[0].length;
      if (token.single_word && (WORD_BEFORE.test(before(text, begin)) || WORD_AFTER.test(text.slice(end, end + 2))))
        continue;
      if (token.lstrip) while (begin > done && SPACE.test(text[begin - 1]!)) begin--;
      if (token.rstrip) while (end < text.length && SPACE.test(text[end]!)) end++;
      if (begin > done) pieces.push(text.slice(done, begin));
      pieces.push(token.id);
      done = end;
    }
    if (done < text.length) pieces.push(text.slice(done));
    return pieces;
  }
}

/** The character that ends at `end`: one or two UTF-16 units. */
function before(text: string, end: number): string {
  return text.slice(Math.max(0, end - 2), end);
}

function escape(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}
