import { setImmediate } from 'node:timers/promises';
import type { Batch, Patches } from '../../lib/model/batch.js';
import type { Model, ModelConfigInput } from '../../lib/model/model.js';

/** Two modalities with towers of their own. */
export const TINY: ModelConfigInput = {
  vocab: 64,
  d_model: 32,
  n_layers: 2,
  n_heads: 4,
  n_kv_heads: 2,
  ffn_dim: 48,
  modalities: ['text', 'image'],
};

/** Large enough that a step of 128 tokens takes some tenths of a second on the reference backend. */
export const SLOW: ModelConfigInput = { ...TINY, vocab: 300, d_model: 64, n_layers: 4, ffn_dim: 96 };

/** One document of alternating runs of modalities, each place predicting the next token. */
export function makeBatch(tokens: number, vocab = 64, seed = 1): Required<Omit<Batch, keyof Patches>> {
  const at = (f: (i: number) => number): Int32Array => Int32Array.from({ length: tokens }, (_, i) => f(i));
  const token = (i: number): number => (i * 7 + seed * 13 + (i >> 2)) % vocab;
  const modality = (i: number): number => (i >> 2) % 2;
  return {
    token: at(token),
    modality: at(modality),
    position: at((i) => i),
    kvStart: at(() => 0),
    kvEnd: at((i) => i + 1),
    target: at((i) => (i + 1 < tokens ? token(i + 1) : -1)),
    targetModality: at((i) => modality(i + 1)),
  };
}

/** All weights, as bytes, to compare bit by bit. */
export async function weightBytes(model: Model): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (const { name } of model.tensors()) {
    const values = await model.readTensor('weight', name);
    parts.push(Buffer.from(values.buffer, values.byteOffset, values.byteLength));
  }
  return Buffer.concat(parts);
}

/** Gaps between turns of the event loop until a promise settles, ms. */
export async function loopGaps(until: Promise<unknown>): Promise<number[]> {
  let done = false;
  const finished = until.finally(() => (done = true));
  const gaps: number[] = [];
  let before = performance.now();
  while (!done) {
    await setImmediate();
    const now = performance.now();
    gaps.push(now - before);
    before = now;
  }
  await finished;
  return gaps;
}
