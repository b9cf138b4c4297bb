import { describe, expect, test } from '@jest/globals';
import { generateSpan, generateSpanIds, promptTokens, spanGrammar } from '../../lib/generate/spans.js';
import { Model } from '../../lib/model/model.js';
import type { Segment, Tokenizers } from '../../lib/modalities/registry.js';
import type { Picture, Tokenizer } from '../../lib/modalities/tokenizer.js';
import { makeVocabulary, type Vocabulary } from '../../lib/modalities/vocabulary.js';

const vocabulary: Vocabulary = makeVocabulary([
  ['text', 5],
  ['image', 6],
]);
const letters = 'abcde';
const text: Tokenizer<string> = {
  modality: 'text',
  size: 5,
  encode: (raw) => Int32Array.from(raw, (letter) => letters.indexOf(letter)),
  decode: (ids) => Array.from(ids, (id) => letters[id]).join(''),
  rule: () => ({ begin: 0, end: 5, mayEnd: true }),
};
// Four pixels, alternately of the lower and the upper half of the codes.
const image: Tokenizer<Int32Array> = {
  modality: 'image',
  size: 6,
  encode: (raw) => raw,
  decode: (ids) => Int32Array.from(ids),
  rule: (length) =>
    length === 4
      ? { begin: 0, end: 0, mayEnd: true }
      : { begin: 3 * (length % 2), end: 3 + 3 * (length % 2), mayEnd: false },
};
const tokenizers = { text, image } as unknown as Tokenizers;
const ids = vocabulary.special;

describe('promptTokens', () => {
  test('begins the document and the span', async () => {
    const { token, modality } = await promptTokens([{ text: 'ab' }], 'image', tokenizers, vocabulary);
    expect([...(token as number[])]).toEqual([ids['<bos>'], 4, 5, ids['<image>']]);
    expect([...(modality as number[])]).toEqual([0, 0, 0, 0]);
    expect([...((await promptTokens([], 'text', tokenizers, vocabulary)).token as number[])]).toEqual([ids['<bos>']]);
    await expect(promptTokens([], 'smell', tokenizers, vocabulary)).rejects.toThrow(
      /no modality "smell"; it has text, image/,
    );
  });
});

describe('spanGrammar', () => {
  test('gives the tokenizer its say, and the end only where the span may end', () => {
    const next = spanGrammar('image', tokenizers, vocabulary);
    const { begin } = vocabulary.ranges['image']!;
    expect(next([])).toEqual({ allowed: [[begin, begin + 3]] });
    expect(next([begin])).toEqual({ allowed: [[begin + 3, begin + 6]] });
    const end = ids['</image>']!;
    expect(next([begin, begin + 3, begin, begin + 3])).toEqual({ allowed: [[end, end + 1]] });
  });

  test('text ends with the document or where another span begins', () => {
    const next = spanGrammar('text', tokenizers, vocabulary);
    const tokens = [ids['<eos>']!, ids['<image>']!];
    expect(next([])).toEqual({ allowed: [[4, 9], ...tokens.map((token) => [token, token + 1])] });
  });
});

describe('generateSpan', () => {
  test('gives whole spans of local ids, whatever the weights', async () => {
    const config = { vocab: vocabulary.size, d_model: 32, n_layers: 1, n_heads: 2, modalities: ['text', 'image'] };
    await using model = await Model.create(config, { tokens: 32, kv_slots: 64, positions: 32 });
    const prompts = [[{ text: 'abc' }], [{ text: 'e' }], []];
    const pictures = await generateSpan(model, prompts, 'image', tokenizers, vocabulary, { maxTokens: 10, seed: 4 });
    expect(pictures).toHaveLength(3);
    for (const picture of pictures as unknown as Int32Array[]) {
      expect(picture).toHaveLength(4);
      picture.forEach((id, i) => expect(Math.floor(id / 3)).toBe(i % 2));
    }
    const words = await generateSpan(model, prompts, 'text', tokenizers, vocabulary, { maxTokens: 10, seed: 4 });
    for (const word of words) expect(word).toMatch(/^[a-e]{0,10}$/);
  });

  test('text after a picture is not empty, also where the model would rather end it; each span is told', async () => {
    const config = { vocab: vocabulary.size, d_model: 32, n_layers: 1, n_heads: 2, modalities: ['text', 'image'] };
    await using model = await Model.create(config, { tokens: 32, kv_slots: 64, positions: 32 });
    const picture = Int32Array.of(0, 3, 1, 4) as unknown as Picture;
    const prompts: Segment[][] = [[{ text: 'ab' }], [{ image: picture }], []];
    // Whatever token the weights favour, some seed draws the end of the document first.
    const lengths = new Map<number, number>([
      [0, 9],
      [1, 9],
      [2, 9],
    ]);
    for (let seed = 0; seed < 60; seed++) {
      const done: number[] = [];
      const options = { maxTokens: 3, seed, onSpan: (index: number) => void done.push(index) };
      const spans = await generateSpanIds(model, prompts, 'text', tokenizers, vocabulary, options);
      spans.forEach((ids, i) => lengths.set(i, Math.min(lengths.get(i)!, ids.length)));
      expect(done.sort()).toEqual([0, 1, 2]);
    }
    expect([...lengths.values()]).toEqual([0, 1, 1]);
  });
});
