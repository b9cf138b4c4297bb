import { describe, expect, test } from '@jest/globals';
import { BaselineFitter, crossEntropies, NgramCounts } from '../../lib/data/ngram_baselines.js';
import { randomKey, randomUniform } from '../../lib/modalities/random.js';
import type { Document } from '../../lib/model/batch.js';

const text = (...token: number[]): Document => ({ token, modality: token.map(() => 0) });

describe('NgramCounts', () => {
  // Pairs 01, 12, 21, 12; predicted tokens: 1 twice, 2 twice; V = 4.
  const counts = new NgramCounts(4);
  counts.add(text(0, 1, 2));
  counts.add(text(2, 1, 2));

  test('unigram by hand', () => {
    expect(counts.unigram(1, 0.5)).toBeCloseTo(2.5 / 6, 12);
    expect(counts.unigram(3, 0.5)).toBeCloseTo(0.5 / 6, 12);
  });

  test('bigram by hand', () => {
    const smoothing = { alpha: 0.5, discount: 0.4 };
    // After 1 came 2 twice, and nothing else.
    expect(counts.bigram(1, 2, smoothing)).toBeCloseTo((1.6 + 0.4 * (2.5 / 6)) / 2, 12);
    expect(counts.bigram(1, 0, smoothing)).toBeCloseTo((0.4 * (0.5 / 6)) / 2, 12);
    // Nothing came after 3.
    expect(counts.bigram(3, 2, smoothing)).toBeCloseTo(2.5 / 6, 12);
  });

  test('both are distributions', () => {
    const smoothing = { alpha: 0.1, discount: 0.7 };
    const ids = [0, 1, 2, 3];
    expect(ids.reduce((sum, b) => sum + counts.unigram(b, 0.1), 0)).toBeCloseTo(1, 12);
    for (const a of ids) expect(ids.reduce((sum, b) => sum + counts.bigram(a, b, smoothing), 0)).toBeCloseTo(1, 12);
  });

  test('cross-entropies go to the modality of the predicted token and skip the first', () => {
    const smoothing = [
      { alpha: 0.5, discount: 0.4 },
      { alpha: 0.5, discount: 0.4 },
      { alpha: 0.5, discount: 0.4 },
    ];
    const document: Document = { token: [0, 1, 2], modality: [1, 0, 1] };
    const [first, second, third] = crossEntropies(counts, [document], smoothing);
    expect(first!.unigram).toBeCloseTo(-Math.log(2.5 / 6), 12);
    expect(first!.bigram).toBeCloseTo(-Math.log((0.6 + 0.4 * (2.5 / 6)) / 1), 12);
    expect(second!.bigram).toBeCloseTo(-Math.log((1.6 + 0.4 * (2.5 / 6)) / 2), 12);
    expect(third!.bigram).toBeNaN();
  });
});

describe('BaselineFitter', () => {
  // A chain in which 7 of 10 steps lead to the next of 16 tokens, the others anywhere: entropy about 1.6 nats.
  const key = randomKey(5, 'chain');
  const chain = (n: number): Document => {
    const token = [0];
    for (let i = 0; i < 40; i++) {
      const leap = randomUniform(key, n * 100 + 2 * i) >= 0.7;
      token.push(leap ? Math.floor(randomUniform(key, n * 100 + 2 * i + 1) * 16) : (token.at(-1)! + 1) % 16);
    }
    return text(...token);
  };
  const entropy = -(0.71875 * Math.log(0.71875) + 15 * 0.01875 * Math.log(0.01875));

  test('comes near the entropy of a Markov chain; the unigram does not', () => {
    const fitter = new BaselineFitter(17, ['text', 'image']);
    for (let n = 0; n < 1000; n++) fitter.add(chain(n));
    const { text: line, image } = fitter.finish()(Array.from({ length: 200 }, (_, n) => chain(2000 + n)));
    expect(image).toBeUndefined();
    expect(line!.bigram).toBeGreaterThan(entropy - 0.03);
    expect(line!.bigram).toBeLessThan(entropy + 0.03);
    expect(line!.unigram).toBeGreaterThan(2.7);
    expect(line!.unigram).toBeLessThan(Math.log(16) + 0.03);
  });

  test('tuned smoothing is no worse than an untuned one on few documents', () => {
    const training = Array.from({ length: 60 }, (_, n) => chain(n));
    const judged = Array.from({ length: 200 }, (_, n) => chain(2000 + n));
    const fitter = new BaselineFitter(17, ['text']);
    const counts = new NgramCounts(17);
    for (const document of training) {
      fitter.add(document);
      counts.add(document);
    }
    const tuned = fitter.finish()(judged)['text']!.bigram;
    for (const smoothing of [
      { alpha: 3, discount: 0.02 },
      { alpha: 0.001, discount: 0.05 },
    ])
      expect(tuned).toBeLessThan(crossEntropies(counts, judged, [smoothing])[0]!.bigram);
  });

  test('an empty fit still judges', () => {
    const judge = new BaselineFitter(8, ['text']).finish();
    expect(judge([text(1, 2)])['text']!.bigram).toBeCloseTo(Math.log(8), 6);
    expect(judge([])).toEqual({});
  });
});
