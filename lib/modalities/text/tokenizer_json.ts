import { readFile, writeFile } from 'node:fs/promises';
import { MotError } from '../../errors.js';
import { TextTokenizer } from './bpe.js';
import { asObject, bpeOfJson, expect } from './bpe_json.js';
import { HubTextTokenizer } from './hub_tokenizer.js';

/**
 * The vocabulary as Hugging Face's `tokenizer.json`: model BPE, ByteLevel pre-tokenizer and decoder.
 *
 * @param specialTokens Texts that become one token each wherever they stand; their ids follow the vocabulary's. With
 *   any, the file is one for HubTextTokenizer.
 */
export function toTokenizerJson(tokenizer: TextTokenizer, specialTokens: readonly string[] = []): string {
  const { tokens, merges } = tokenizer.model;
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const value = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, i) => ({
      id: tokens.length + i,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merges.map(([left, right]) => [tokens[left], tokens[right]]),
    },
  };
  return `${JSON.stringify(value, null, 1)}\n`;
}

/**
 * Reads a `tokenizer.json`. Only what the file says in full is accepted: byte-level BPE with GPT-2's words, no
 * normalizer, no added tokens (special tokens are the data set's vocabulary's).
 */
export function fromTokenizerJson(json: string): TextTokenizer {
  let file: Record<string, unknown>;
  try {
    file = asObject(JSON.parse(json), 'the file');
  } catch (cause) {
    if (cause instanceof MotError) throw cause;
    throw new MotError('ERR_FILE_FORMAT', 'tokenizer.json is not JSON; prepare the data set again', { cause });
  }
  const model = asObject(file['model'], 'model');
  const preTokenizer = asObject(file['pre_tokenizer'], 'pre_tokenizer');
  expect(
    preTokenizer['type'] === 'ByteLevel' && preTokenizer['use_regex'] !== false && !preTokenizer['add_prefix_space'],
    'a ByteLevel pre-tokenizer with use_regex and without add_prefix_space',
  );
  expect(file['normalizer'] == null, 'no normalizer');
  expect(
    file['added_tokens'] == null || (Array.isArray(file['added_tokens']) && file['added_tokens'].length === 0),
    'no added tokens',
  );
  for (const unsupported of ['byte_fallback', 'ignore_merges']) expect(!model[unsupported], `no ${unsupported}`);
  return new TextTokenizer(bpeOfJson(model));
}

/** Writes `tokenizer.json`. */
export async function saveTextTokenizer(path: string, tokenizer: TextTokenizer | HubTextTokenizer): Promise<void> {
  try {
    await writeFile(path, tokenizer instanceof HubTextTokenizer ? tokenizer.json : toTokenizerJson(tokenizer));
  } catch (cause) {
    throw new MotError('ERR_FILE_WRITE', `could not write ${path}; check its folder and the space left`, { cause });
  }
}

/**
 * Reads a `tokenizer.json`: what saveTextTokenizer() wrote, or any of Hugging Face's.
 *
 * @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT.
 */
export async function loadTextTokenizer(path: string): Promise<TextTokenizer | HubTextTokenizer> {
  let json: string;
  try {
    json = await readFile(path, 'utf8');
  } catch (cause) {
    throw new MotError('ERR_FILE_OPEN', `could not read ${path}; check the path, or prepare the data set again`, {
      cause,
    });
  }
  try {
    // Plain byte-level BPE: ours is faster, and gives every text back.
    return fromTokenizerJson(json);
  } catch {
    return new HubTextTokenizer(json);
  }
}
