/*
 * GPT-2's way of cutting text into words and writing bytes as characters, as the Hugging Face `ByteLevel`
 * pre-tokenizer does it: every string has ids, and decoding gives the same string back.
 */

/** GPT-2's words. `\p{White_Space}` instead of `\s`, which in JavaScript holds U+FEFF and lacks U+0085. */
const WORDS =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** The words of a text; joined they give it back. */
export function words(text: string): string[] {
  return text.match(WORDS) ?? [];
}

/** Character of each byte: printable Latin-1 stands for itself, the other bytes for U+0100 and following. */
export const BYTE_CHARACTER: readonly string[] = byteCharacters();

/** The byte characters in the order of their code points: the first 256 tokens of every vocabulary made here. */
export const ALPHABET: readonly string[] = [...BYTE_CHARACTER].sort();

const CHARACTER_BYTE: ReadonlyMap<string, number> = new Map(BYTE_CHARACTER.map((character, byte) => [character, byte]));

function byteCharacters(): string[] {
  const characters: string[] = [];
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    characters.push(String.fromCharCode(printable ? byte : next++));
  }
  return characters;
}

/** The bytes that a token's characters stand for; undefined when it holds another character. */
export function tokenBytes(token: string): Uint8Array | undefined {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = CHARACTER_BYTE.get(token[i]!);
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}
