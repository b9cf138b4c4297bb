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

/** Numbers of a patch of `withImage`. */
export const PATCH_DIM = 6;

/** A text of 16 tokens whose places from `first` on are an image. */
export function withImage(first: number, count: number): Required<Omit<Batch, 'noise'>> & { noise: Float32Array } {
  const batch = makeBatch(16);
  const inside = (t: number): boolean => t >= first && t < first + count;
  const at = (salt: number): Float32Array =>
    Float32Array.from({ length: count * PATCH_DIM }, (_, i) => Math.sin(salt + 1.7 * i));
  return {
    ...batch,
    modality: batch.modality.map((_, t) => (inside(t) ? 1 : 0)),
    kvEnd: batch.kvEnd.map((end, t) => (inside(t) ? first + count : end)),
    target: batch.target.map((token, t) => (inside(t) || inside(t + 1) ? -1 : token)),
    targetModality: new Int32Array(16),
    patchRow: Int32Array.from({ length: 16 }, (_, t) => (inside(t) ? t - first : -1)),
    latent: at(1),
    noise: at(2),
    imageOfRow: new Int32Array(count),
    timestep: Int32Array.of(400),
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
