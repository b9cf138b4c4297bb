import { describe, expect, test } from '@jest/globals';
import { documentGrammar } from '../../lib/generate/documents.js';
import type { Tokenizers } from '../../lib/modalities/registry.js';
import { makeVocabulary } from '../../lib/modalities/vocabulary.js';

describe('documentGrammar', () => {
  const vocabulary = makeVocabulary([
    ['text', 10],
    ['image', 4],
    ['speech', 3],
  ]);
  const image = { rule: (n: number) => ({ begin: 0, end: n < 2 ? 4 : 0, mayEnd: n >= 2 }) };
  const speech = { rule: (n: number) => ({ begin: n % 2, end: 3, mayEnd: n > 0 }) };
  const next = documentGrammar({ image, speech } as unknown as Tokenizers, vocabulary);
  const { special, ranges } = vocabulary;
  const allowed = (generated: number[]): number[] => {
    const rule = next(generated);
    if ('stop' in rule) throw new Error('the grammar never stops by itself');
    return rule.allowed
      .flatMap(([begin, end]) => Array.from({ length: end - begin }, (_, i) => begin + i))
      .sort((a, b) => a - b);
  };
  const ids = (modality: string): number[] => {
    const { begin, end } = ranges[modality]!;
    return Array.from({ length: end - begin }, (_, i) => begin + i);
  };
  const inText = [special['<eos>']!, special['<image>']!, special['<speech>']!, ...ids('text')];

  test('text goes on, ends, or gives way to another modality', () => {
    expect(allowed([])).toEqual(inText);
    expect(allowed(ids('text').slice(0, 2))).toEqual(inText);
  });

  test('in a span its tokenizer rules, and after it there is text again', () => {
    const [a, b] = ids('image') as [number, number];
    const begin = special['<image>']!;
    expect(allowed([begin])).toEqual(ids('image'));
    expect(allowed([begin, a])).toEqual(ids('image'));
    expect(allowed([begin, a, b])).toEqual([special['</image>']]);
    const after = [begin, a, b, special['</image>']!];
    expect(allowed(after)).toEqual(inText);
    expect(allowed([...after, special['<speech>']!])).toEqual(ids('speech'));
    expect(allowed([...after, special['<speech>']!, ids('speech')[0]!])).toEqual([
      special['</speech>'],
      ...ids('speech').slice(1),
    ]);
  });
});
