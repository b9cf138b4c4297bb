import { describe, expect, test } from '@jest/globals';
import { lossCurves, throughputCurve } from '../../lib/report/curves.js';
import type { ReportData } from '../../lib/report/data.js';
import { renderReport, smooth } from '../../lib/report/html.js';
import type { MetricsLine } from '../../lib/train/metrics.js';

const step = (n: number, text: number | null): MetricsLine => ({
  step: n,
  loss: text,
  losses: { text },
  grad_norm: 1,
  lr: 0.1,
  tokens: 10,
  tokens_per_second: 100 * n,
  elapsed: n,
  memory: 50,
});
const lines: MetricsLine[] = [
  step(1, 4),
  step(2, null),
  { event: 'validation', step: 2, split: 'validation', loss: 3, losses: { text: 3 }, targets: { text: 5 } },
  { event: 'resumed_from', step: 2, checkpoint: 'step-000002' },
  step(3, 2),
];
const baselines = { validation: { text: { unigram: 3.5, bigram: 3.25 } }, heldout: {} };

const picture = (value: number) => ({ width: 2, height: 2, data: new Uint8Array(12).fill(value) });
const data: ReportData = {
  title: 'a <b>run</b>',
  facts: [['steps', '3']],
  curves: lossCurves(lines, ['text', 'image'], baselines),
  throughput: throughputCurve(lines),
  trainingSamples: [],
  samples: [
    {
      caption: 'cat </script><script>alert(1)</script>',
      known: false,
      truePicture: picture(1),
      tokenPicture: picture(2),
      picture: picture(3),
      captionFromPicture: 'dog',
      trueSound: { sampleRate: 16000, samples: new Float32Array(160) },
    },
  ],
  attribution: [{ what: 'pictures', by: 'someone', licence: 'MIT', url: 'https://example.org/?a=1&b=2' }],
  config: 'model: {}',
};

describe('lossCurves', () => {
  test('sorts lines by kind and leaves gaps where a loss was not finite', () => {
    const [text, image] = data.curves;
    expect(text!.train).toEqual({ step: [1, 3], value: [4, 2] });
    expect(text!.validation).toEqual({ step: [2], value: [3] });
    expect(text).toMatchObject({ unigram: 3.5, bigram: 3.25 });
    expect(image!.train.step).toEqual([]);
    expect(image!.unit).toBe('nats a token');
    expect(data.throughput).toEqual({ step: [1, 2, 3], value: [100, 200, 300] });
  });
});

test('the curve of a continuous modality is its diffusion loss', () => {
  const diffused = lines.map((line) => ('losses' in line ? { ...line, diffusion_loss: line.step / 10 } : line));
  const [text, image] = lossCurves(diffused, ['text', 'image'], baselines, ['image']);
  expect(image).toMatchObject({
    unit: 'squared error of the prediction',
    train: { step: [1, 2, 3], value: [0.1, 0.2, 0.3] },
    validation: { step: [2], value: [0.2] },
  });
  expect(text!.train).toEqual({ step: [1, 3], value: [4, 2] });
});

describe('smooth', () => {
  test('is the mean of the last values', () => {
    expect(smooth({ step: [1, 2, 3, 4], value: [1, 3, 5, 7] }, 2).value).toEqual([1, 2, 4, 6]);
  });
});

describe('renderReport', () => {
  const html = renderReport(data);

  test('needs nothing from outside', () => {
    expect(html).not.toMatch(/(src|href)="(?!data:)[^"]*\.(js|css|png|wav)"/);
    expect(html).not.toMatch(/<link|@import|fetch\(|XMLHttpRequest/);
    expect(html.match(/src="data:image\/png;base64,/g)).toHaveLength(3);
    expect(html.match(/src="data:audio\/wav;base64,/g)).toHaveLength(1);
  });

  test('escapes what comes from data', () => {
    expect(html).not.toContain('<script>alert');
    expect(html).not.toContain('a <b>run');
    expect(html).toContain('a=1&#38;b=2');
  });

  test('says whether a modality got under its bigram line', () => {
    expect(html).toMatch(/text<\/td><td>3\.000<\/td><td>3\.500<\/td><td>3\.250<\/td>.*under the bigram/);
  });
});
