import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { Model } from '../../lib/model/model.js';
import type { Document } from '../../lib/model/batch.js';
import type { StepMetrics } from '../../lib/train/metrics.js';
import { train, type TrainOptions } from '../../lib/train/train.js';

const config = { vocab: 24, d_model: 32, n_layers: 1, n_heads: 4, ffn_dim: 48, modalities: ['a', 'b'] };
let model: Model;
beforeEach(async () => {
  model = await Model.create(config, { tokens: 32, seed: 1 });
});
afterEach(() => model.dispose());

/** Documents that count upwards, from a different number each; modality b is the second half of the vocabulary. */
function* counting(count: number, length = 12): Generator<Document> {
  for (let d = 0; d < count; d++) {
    const token = Array.from({ length }, (_, i) => (5 * d + i) % 24);
    yield { token, modality: token.map((id) => (id < 12 ? 0 : 1)) };
  }
}

async function all(
  documents: Iterable<Document> | AsyncIterable<Document>,
  options: TrainOptions,
): Promise<StepMetrics[]> {
  const metrics: StepMetrics[] = [];
  for await (const step of train(model, documents, options)) metrics.push(step);
  return metrics;
}

test('learns from an own iterator, and ends with the documents', async () => {
  const metrics = await all(counting(240), { sequences: 2, seqLen: 24, lr: 0.02, warmupSteps: 5 });
  expect(metrics.map(({ step }) => step)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
  expect(metrics.at(-1)!.loss!).toBeLessThan(0.3 * metrics[0]!.loss!);
  expect(Object.keys(metrics[0]!.losses)).toEqual(['a', 'b']);
  // Without `steps` the learning rate stays where the warm-up has brought it.
  expect(metrics[2]!.lr).toBeCloseTo(0.012, 10);
  expect(metrics.at(-1)!.lr).toBe(0.02);
});

test('sequences that do not fit at once are accumulated, to the same result up to rounding', async () => {
  const options = { steps: 5, sequences: 4, seqLen: 16, lr: 0.01 };
  const accumulated = await all(counting(100), options);
  await using larger = await Model.create(config, { tokens: 64, positions: 16, seed: 1 });
  let i = 0;
  for await (const { loss, tokens } of train(larger, counting(100), options)) {
    expect(tokens).toBe(accumulated[i]!.tokens);
    expect(loss).toBeCloseTo(accumulated[i++]!.loss!, 4);
  }
  expect(i).toBe(5);
});

test('the size of a step in tokens is that in sequences, rounded', async () => {
  const tokensOf = async (options: TrainOptions) => (await all(counting(40), options)).map(({ tokens }) => tokens);
  const options = { steps: 3, seqLen: 16, lr: 0.01 };
  expect(await tokensOf({ ...options, batchTokens: 40 })).toEqual(await tokensOf({ ...options, sequences: 3 }));
  expect(await tokensOf({ ...options, batchTokens: 1 })).toEqual(await tokensOf(options));
  await expect(all(counting(1), { batchTokens: 8, sequences: 1 })).rejects.toMatchObject({
    code: 'ERR_ARGUMENT',
    message: expect.stringContaining('both give the size'),
  });
});

test('the schedule is the one asked for', async () => {
  const options = { steps: 4, sequences: 1, seqLen: 16, lr: 0.01, minLrRatio: 0.0625 };
  const rates = async (schedule: TrainOptions['schedule']): Promise<number[]> =>
    (await all(counting(10), { ...options, schedule })).map(({ lr }) => Number(lr.toFixed(8)));
  expect(await rates('constant')).toEqual([0.01, 0.01, 0.01, 0.01]);
  expect(await rates('exponential')).toEqual([0.005, 0.0025, 0.00125, 0.000625]);
});

test('leaving the loop closes the iterator', async () => {
  let closed = false;
  async function* endless(): AsyncGenerator<Document> {
    try {
      for (;;) yield* counting(10);
    } finally {
      closed = true;
    }
  }
  for await (const { step } of train(model, endless(), { seqLen: 24 })) if (step === 3) break;
  expect(closed).toBe(true);
});

test('a second call counts on from startStep', async () => {
  const first = await all(counting(20), { steps: 10, seqLen: 24, lr: 0.01 });
  const second = await all(counting(20), { startStep: first.length, steps: 20, seqLen: 24, lr: 0.01 });
  expect(second[0]!.step).toBe(11);
});

test('a hook gets the metrics of every step; what it throws is a warning', async () => {
  const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  const got: unknown[] = [];
  const onMetrics = (line: unknown): void => {
    got.push(line);
    throw new Error('the logger is down');
  };
  try {
    expect(await all(counting(8), { seqLen: 24, onMetrics })).toEqual(got);
    expect(warn.mock.calls).toEqual([['onMetrics failed at step 1, and training goes on: the logger is down']]);
  } finally {
    warn.mockRestore();
  }
  expect(got).toHaveLength(4);
});

describe('refused', () => {
  test.each<[string, TrainOptions, string, RegExp]>([
    ['an unknown option', { sequnces: 2 } as TrainOptions, 'ERR_ARGUMENT', /did you mean sequences\?/],
    ['no steps', { steps: 0 }, 'ERR_ARGUMENT', /steps must be at least 1/],
    ['sequences longer than the model takes', { seqLen: 64 }, 'ERR_LIMIT', /created with tokens 32/],
    ['documents longer than a sequence', { seqLen: 8 }, 'ERR_DATA', /12 tokens/],
  ])('%s', async (_, options, code, message) => {
    await expect(all(counting(4), options)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test('a token that is out of range', async () => {
    await expect(all([{ token: [1, 24], modality: [0, 0] }], {})).rejects.toMatchObject({ code: 'ERR_BATCH' });
  });

  test('an aborted step', async () => {
    const controller = new AbortController();
    controller.abort();
    await expect(all(counting(4), { signal: controller.signal })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });

  test('an error of the iterator comes through', async () => {
    async function* failing(): AsyncGenerator<Document> {
      yield* counting(5);
      throw new Error('the source is gone');
    }
    await expect(all(failing(), { seqLen: 24 })).rejects.toThrow('the source is gone');
  });
});
