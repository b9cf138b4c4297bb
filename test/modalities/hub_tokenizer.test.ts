import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { TextTokenizer } from '../../lib/modalities/text/bpe.js';
import { HubTextTokenizer } from '../../lib/modalities/text/hub_tokenizer.js';
import { toTokenizerJson } from '../../lib/modalities/text/tokenizer_json.js';
import { packageRoot } from '../../lib/package.js';

/** Tokenizers of every kind, trained by Hugging Face's library on texts.json, with its ids: see hub/make.py. */
const FOLDER = path.join(packageRoot(), 'test/modalities/hub');
const KINDS = ['byte_level', 'split_bytes', 'prefix_space', 'byte_fallback', 'characters', 'word_piece', 'unigram'];
const TEXTS = read('texts') as string[];

function read(name: string): unknown {
  return JSON.parse(readFileSync(path.join(FOLDER, `${name}.json`), 'utf8'));
}

describe('HubTextTokenizer', () => {
  test.each(KINDS)('%s: the ids of the reference library, in many scripts and emoji', (kind) => {
    const { tokenizer, ids } = read(kind) as { tokenizer: object; ids: number[][] };
    const hub = new HubTextTokenizer(JSON.stringify(tokenizer));
    expect(ids).toHaveLength(TEXTS.length);
    const wrong = (order: number[]): string[] =>
      order.filter((i) => String([...hub.encode(TEXTS[i]!)]) !== String(ids[i])).map((i) => TEXTS[i]!);
    const order = TEXTS.map((_, i) => i);
    expect(wrong(order)).toEqual([]);
    // Now from memory, and in another order.
    expect(wrong(order.reverse())).toEqual([]);
  });

  test.each(['byte_level', 'split_bytes'])('%s: texts come back', (kind) => {
    const { tokenizer } = read(kind) as { tokenizer: object };
    const hub = new HubTextTokenizer(JSON.stringify(tokenizer));
    const plain = TEXTS.filter((text) => !/<(mask|tool)>/.test(text));
    expect(plain.map((text) => hub.decode(hub.encode(text)))).toEqual(
      kind === 'byte_level' ? plain.map((text) => text.normalize('NFC')) : plain,
    );
  });

  test('words that would fill the memory do not change the ids', () => {
    const plain = TextTokenizer.train(['the cat sat on the mat'], { size: 265 });
    const hub = new HubTextTokenizer(toTokenizerJson(plain, ['<|end|>']));
    const text = Array.from({ length: 60_000 }, (_, i) => `w${i}`).join(' ');
    const ids = [...plain.encode(text)];
    expect([...hub.encode(`${text}<|end|>${text}`)]).toEqual([...ids, plain.size, ...ids]);
  });

  test('a word without a token, and none for unknown ones, is an error that names it', () => {
    const { tokenizer } = read('word_piece') as { tokenizer: { model: { unk_token: string; vocab: object } } };
    const vocab: Record<string, number> = { ...tokenizer.model.vocab };
    delete vocab['[UNK]'];
    const hub = new HubTextTokenizer(
      JSON.stringify({ ...tokenizer, added_tokens: [], model: { ...tokenizer.model, vocab } }),
    );
    expect(() => hub.encode('𓂀')).toThrow(expect.objectContaining({ code: 'ERR_DATA' }));
  });

  test('says of a file that cannot be used what is wrong', () => {
    for (const json of ['', '[]', '{}', '{"model":{"type":"BPE","vocab":{},"merges":[]}}'])
      expect(() => new HubTextTokenizer(json)).toThrow(expect.objectContaining({ code: 'ERR_FILE_FORMAT' }));
  });
});
