import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TextTokenizer } from '../../lib/modalities/text/bpe.js';
import { ALPHABET, BYTE_CHARACTER, words } from '../../lib/modalities/text/pretokenize.js';
import {
  fromTokenizerJson,
  loadTextTokenizer,
  saveTextTokenizer,
  toTokenizerJson,
} from '../../lib/modalities/text/tokenizer_json.js';
import { trainBpe, type BpeModel } from '../../lib/modalities/text/train_bpe.js';

const TEXTS = [
  'red heart left of twemoji cat on blue',
  "noto cat with tears of joy on red, cat's heart",
  'the cat sat on the mat: 12 cats, 2 hearts!',
  'Übergröße — 日本語 🙂🙂',
];
const tokenizer = TextTokenizer.train(TEXTS, { size: 290 });

/** Any text: letters, spaces, controls, all planes. */
const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc
    .array(fc.constantFrom(' ', '  ', '\n', '\t', "'s", 'cat', ' cat', 'heart', '12', '🙂', '\u0085', '\ufeff', '日'))
    .map((parts) => parts.join('')),
);

describe('words', () => {
  test('are those of GPT-2', () => {
    expect(words("the cat's  mat:12 Übel\n\n x ")).toEqual([
      'the',
      ' cat',
      "'s",
      ' ',
      ' mat',
      ':',
      '12',
      ' Übel',
      '\n\n',
      ' x',
      ' ',
    ]);
    expect(words("we'll\u00a0\u0085x\ufeffy")).toEqual(['we', "'ll", '\u00a0', '\u0085', 'x', '\ufeff', 'y']);
  });

  test('joined give the text', () => {
    fc.assert(fc.property(anyText, (text) => expect(words(text).join('')).toBe(text)));
  });
});

describe('trainBpe', () => {
  test("gives the merges of Hugging Face's BpeTrainer", () => {
    // tokenizers 0.23.3, min_frequency 2, vocab_size 290, initial_alphabet ByteLevel.alphabet().
    const expected = 'a t|c at|h e|Ġ o|Ġ cat|a r|Ġ t|Ġ he|Ġo n|ar t|Ġhe art|e d|r ed|ð Ł|Ļ Ĥ|Ġo f|ðŁ ĻĤ';
    const { tokens, merges } = tokenizer.model;
    expect(merges.map(([left, right]) => `${tokens[left]} ${tokens[right]}`).join('|')).toBe(expected);
    expect(tokens.slice(0, 256)).toEqual(ALPHABET);
    expect([...tokenizer.encode("hearts on the cat's mat  🙂\n")]).toEqual([
      258, 265, 82, 264, 262, 258, 260, 6, 82, 220, 76, 256, 220, 220, 272, 198,
    ]);
  });

  test('gives the merges of counting all pairs anew each time', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c', ' '), maxLength: 30 });
    fc.assert(
      fc.property(fc.array(text, { maxLength: 6 }), fc.integer({ min: 1, max: 3 }), (texts, minFrequency) => {
        const options = { size: 275, minFrequency };
        expect(trainBpe(texts, options)).toEqual(slowTrain(texts, options.size, minFrequency));
      }),
    );
  });

  test('rejects a size below that of the bytes', () => {
    expect(() => trainBpe(TEXTS, { size: 255 })).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
  });
});

describe('TextTokenizer', () => {
  test('decodes what it encodes', () => {
    fc.assert(fc.property(anyText, (text) => expect(tokenizer.decode(tokenizer.encode(text))).toBe(text)));
  });

  test('encodes as merging rank by rank does', () => {
    fc.assert(
      fc.property(anyText, (text) => expect([...tokenizer.encode(text)]).toEqual(slowEncode(tokenizer.model, text))),
    );
  });

  test('turns a lone surrogate into U+FFFD', () => {
    expect(tokenizer.decode(tokenizer.encode('a\ud800b'))).toBe('a\ufffdb');
  });

  test('decodes an incomplete character without an error, and rejects ids out of range', () => {
    expect(tokenizer.decode(tokenizer.encode('é').slice(0, 1))).toBe('\ufffd');
    expect(tokenizer.decode([])).toBe('');
    for (const id of [-1, tokenizer.size, 0.5]) {
      expect(() => tokenizer.decode([id])).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
    }
  });

  test('takes a word of 200,000 characters', () => {
    const word = 'cat'.repeat(70000);
    expect(tokenizer.decode(tokenizer.encode(word))).toBe(word);
  });

  test('allows all of its ids, and an end anywhere', () => {
    expect(tokenizer.rule()).toEqual({ begin: 0, end: tokenizer.size, mayEnd: true });
  });
});

describe('tokenizer.json', () => {
  const json = toTokenizerJson(tokenizer);

  test('reads back the same vocabulary', async () => {
    const path = join(mkdtempSync(join(tmpdir(), 'mot-text-')), 'tokenizer.json');
    await saveTextTokenizer(path, tokenizer);
    expect(((await loadTextTokenizer(path)) as TextTokenizer).model).toEqual(tokenizer.model);
    const spaced = JSON.parse(json) as { model: { merges: [string, string][] } };
    const older = { ...spaced, model: { ...spaced.model, merges: spaced.model.merges.map((pair) => pair.join(' ')) } };
    expect(fromTokenizerJson(JSON.stringify(older)).model).toEqual(tokenizer.model);
  });

  test('says what it does not support', () => {
    interface File {
      model?: { vocab: Record<string, number>; merges: unknown[] };
      pre_tokenizer: object;
    }
    const change = (edit: (file: Required<File>) => void): string => {
      const file = JSON.parse(json) as Required<File>;
      edit(file);
      return JSON.stringify(file);
    };
    const broken: [string, string][] = [
      ['not JSON', json.slice(0, -10)],
      ['a list', '[]'],
      ['no model', change((file) => delete (file as File).model)],
      ['WordPiece', change((file) => Object.assign(file.model, { type: 'WordPiece' }))],
      ['a normalizer', change((file) => Object.assign(file, { normalizer: { type: 'NFC' } }))],
      ['a prefix space', change((file) => Object.assign(file.pre_tokenizer, { add_prefix_space: true }))],
      ['added tokens', change((file) => Object.assign(file, { added_tokens: [{ id: 0 }] }))],
      ['byte fallback', change((file) => Object.assign(file.model, { byte_fallback: true }))],
      ['a missing byte', change((file) => delete file.model.vocab['Ġ'])],
      ['a gap in the ids', change((file) => Object.assign(file.model.vocab, { xx: 1000 }))],
      ['an id twice', change((file) => Object.assign(file.model.vocab, { xx: 5 }))],
      ['an unknown merge', change((file) => file.model.merges.push(['q', 'zz']))],
      ['a merge to no token', change((file) => file.model.merges.push(['q', 'z']))],
      ['a token that is not bytes', change((file) => Object.assign(file.model.vocab, { 日: tokenizer.size }))],
    ];
    for (const [what, text] of broken) {
      let error: unknown;
      try {
        fromTokenizerJson(text);
      } catch (thrown) {
        error = thrown;
      }
      expect([what, (error as { code?: string } | undefined)?.code]).toEqual([what, 'ERR_FILE_FORMAT']);
    }
  });

  test('says which file is missing or cannot be written', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'mot-text-'));
    writeFileSync(join(folder, 'file'), '');
    await expect(loadTextTokenizer(join(folder, 'none.json'))).rejects.toMatchObject({ code: 'ERR_FILE_OPEN' });
    await expect(saveTextTokenizer(join(folder, 'file', 'x.json'), tokenizer)).rejects.toMatchObject({
      code: 'ERR_FILE_WRITE',
    });
  });
});

/** BPE training as the definition says it. */
function slowTrain(texts: string[], size: number, minFrequency: number): BpeModel {
  const tokens = [...ALPHABET];
  const merges: [number, number][] = [];
  let lists = texts
    .flatMap(words)
    .map((word) => [...Buffer.from(word)].map((byte) => tokens.indexOf(BYTE_CHARACTER[byte]!)));
  while (tokens.length < size) {
    const counts = new Map<string, number>();
    for (const ids of lists) {
      for (let i = 0; i + 1 < ids.length; i++) {
        const pair = `${ids[i]} ${ids[i + 1]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const [best] = [...counts]
      .map(([pair, count]) => ({ count, ids: pair.split(' ').map(Number) as [number, number] }))
      .sort((a, b) => b.count - a.count || a.ids[0] - b.ids[0] || a.ids[1] - b.ids[1]);
    if (best === undefined || best.count < minFrequency) break;
    const token = tokens[best.ids[0]]! + tokens[best.ids[1]]!;
    if (!tokens.includes(token)) tokens.push(token);
    merges.push(best.ids);
    lists = lists.map((ids) => mergeAll(ids, best.ids, tokens.indexOf(token)));
  }
  return { tokens, merges };
}

/** BPE encoding as the definition says it, for vocabularies in which no token is made by two merges. */
function slowEncode({ tokens, merges }: BpeModel, text: string): number[] {
  return words(text).flatMap((word) => {
    let ids = [...Buffer.from(word)].map((byte) => tokens.indexOf(BYTE_CHARACTER[byte]!));
    for (const pair of merges) ids = mergeAll(ids, pair, tokens.indexOf(tokens[pair[0]]! + tokens[pair[1]]!));
    return ids;
  });
}

function mergeAll(ids: number[], [left, right]: [number, number], id: number): number[] {
  const merged: number[] = [];
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === left && ids[i + 1] === right) {
      merged.push(id);
      i++;
    } else {
      merged.push(ids[i]!);
    }
  }
  return merged;
}
