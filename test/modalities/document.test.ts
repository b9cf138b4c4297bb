import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  decodeDocument,
  encodeDocument,
  encodeSegments,
  joinSpans,
  splitSpans,
  type Segment,
  type Span,
  type Tokenizers,
} from '../../lib/modalities/document.js';
import { ImageTokenizer } from '../../lib/modalities/image/patch_codebook.js';
import { SpeechTokenizer } from '../../lib/modalities/speech/speech_units.js';
import { TextTokenizer } from '../../lib/modalities/text/bpe.js';
import { makeVocabulary, modalityOfToken } from '../../lib/modalities/vocabulary.js';
import { makePicture, makeSpeech } from './support.js';

const vocabulary = makeVocabulary([
  ['text', 300],
  ['image', 64],
  ['speech', 20],
]);
const { special, ranges } = vocabulary;

/** Spans that are not empty, no two texts next to each other. */
const anySpans = fc
  .array(
    fc.constantFrom('text', 'image', 'speech').chain((modality) => {
      const range = ranges[modality]!;
      return fc.record({
        modality: fc.constant(modality),
        ids: fc.array(fc.nat(range.end - range.begin - 1), { minLength: 1, maxLength: 8 }),
      });
    }),
    { maxLength: 6 },
  )
  .map((spans) => spans.filter((span, i) => span.modality !== 'text' || spans[i - 1]?.modality !== 'text'));

describe('joinSpans', () => {
  test('puts spans between their boundary tokens, which are text', () => {
    const spans: Span[] = [
      { modality: 'text', ids: [7] },
      { modality: 'image', ids: [0, 63] },
      { modality: 'speech', ids: [] },
    ];
    const { token, modality } = joinSpans(spans, vocabulary, true);
    expect([...token]).toEqual([
      special['<bos>'],
      ranges['text']!.begin + 7,
      special['<image>'],
      ranges['image']!.begin,
      ranges['image']!.end - 1,
      special['</image>'],
      special['<speech>'],
      special['</speech>'],
      special['<eos>'],
    ]);
    expect([...modality]).toEqual([0, 0, 0, 1, 1, 0, 0, 0, 0]);
    expect([...joinSpans(spans, vocabulary, false).token]).toEqual([...token.slice(0, -1)]);
  });

  test('agrees with modalityOfToken, and splitSpans gives the spans back', () => {
    fc.assert(
      fc.property(anySpans, fc.boolean(), (spans, end) => {
        const { token, modality } = joinSpans(spans, vocabulary, end);
        token.forEach((id, i) => expect(modality[i]).toBe(modalityOfToken(vocabulary, id)));
        expect(splitSpans(token, vocabulary)).toEqual(spans);
      }),
    );
  });

  test('rejects unknown modalities and ids out of range', () => {
    const argument = expect.objectContaining({ code: 'ERR_ARGUMENT' });
    expect(() => joinSpans([{ modality: 'video', ids: [0] }], vocabulary, true)).toThrow(argument);
    for (const id of [-1, 64, Number.NaN]) {
      expect(() => joinSpans([{ modality: 'image', ids: [id] }], vocabulary, true)).toThrow(argument);
    }
  });
});

describe('splitSpans', () => {
  test('reads any sequence of tokens', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(vocabulary.size - 1)), (tokens) => {
        const stop = tokens.indexOf(special['<eos>']!);
        const read = stop < 0 ? tokens : tokens.slice(0, stop);
        const spans = splitSpans(tokens, vocabulary);
        const ids = spans.flatMap(({ modality, ids }) => ids.map((id) => id + ranges[modality]!.begin));
        expect(ids).toEqual(read.filter((token) => token >= ranges['text']!.begin));
      }),
    );
  });

  test('keeps what an open span holds, and rejects what is no token', () => {
    const { begin } = ranges['image']!;
    expect(splitSpans([special['<bos>']!, special['<image>']!, begin + 3], vocabulary)).toEqual([
      { modality: 'image', ids: [3] },
    ]);
    expect(() => splitSpans([vocabulary.size], vocabulary)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
  });
});

describe('documents', () => {
  const picture = makePicture(1);
  const sound = makeSpeech(1);
  const text = TextTokenizer.train(['a red disc'], { size: 260 });
  const image = ImageTokenizer.train([picture, makePicture(2)], { codes: 8, stages: 2 });
  const speech = SpeechTokenizer.train([sound], { units: 12 });
  const tokenizers: Tokenizers = { text, image, speech };
  const words = makeVocabulary([
    ['text', text.size],
    ['image', image.size],
    ['speech', speech.size],
  ]);

  test('of all modalities come back as their tokenizers keep them', () => {
    const segments: Segment[] = [{ text: 'a red disc 🔴' }, { image: picture }, { speech: sound }, { text: ' end' }];
    const { token, modality } = encodeDocument(segments, tokenizers, words);
    expect(token.length).toBe(modality.length);
    expect(modality.filter((m) => m === 1).length).toBe(image.length);
    const [caption, drawn, said, end] = decodeDocument(token, tokenizers, words);
    expect(caption).toEqual({ text: 'a red disc 🔴' });
    expect(drawn).toEqual({ image: image.decode(image.encode(picture)) });
    expect(said).toEqual({ speech: speech.decode(speech.encode(sound)) });
    expect(end).toEqual({ text: ' end' });
    expect([...encodeSegments(segments, tokenizers, words).token]).toEqual([...token.slice(0, -1)]);
  });

  test('with wrong segments are rejected', () => {
    const argument = expect.objectContaining({ code: 'ERR_ARGUMENT' });
    const wrong: unknown[] = [{}, { text: 'a', image: picture }, { video: 1 }, { toString: 1 }];
    for (const segment of wrong)
      expect(() => encodeDocument([segment as Segment], tokenizers, words)).toThrow(argument);
    expect(() => decodeDocument([words.ranges['image']!.begin], { text }, words)).toThrow(argument);
  });
});
