import type { ModelConfigInput } from '../config/model_config.js';
import { parseModelConfig } from '../config/model_config.js';
import { imageSpans } from '../data/latents.js';
import { joinDocuments } from '../data/packer.js';
import type { Batch } from '../model/batch.js';
import { flopsPerToken } from '../model/flops.js';
import type { Shape } from './types.js';

/** Sizes of a model that the suites train or run; heads are 64 wide. */
export interface ModelSize {
  d_model: number;
  n_layers: number;
  ffn_dim: number;
  vocab: number;
  /** Sequences and tokens of each. */
  sequences: number;
  length: number;
}

/** The models of the step suite. */
export const STEP_SIZES: readonly ModelSize[] = [
  { d_model: 384, n_layers: 8, ffn_dim: 1024, vocab: 4096, sequences: 8, length: 512 },
  { d_model: 768, n_layers: 4, ffn_dim: 2048, vocab: 4096, sequences: 8, length: 512 },
];

/** Modalities, and the share of each in the tokens of a batch: uneven on purpose. */
const MODALITIES = ['text', 'image', 'speech'];
const SHARES = [0.55, 0.3, 0.15];

/**
 * A model of `modalities` modalities, each with towers of its own (Mixture of Transformers); 1 is dense. With `experts`
 * the first one's MLP is a mixture of so many (expert choice).
 */
export function modelConfig(size: ModelSize, modalities: number, experts = 0): ModelConfigInput {
  const { d_model, n_layers, ffn_dim, vocab } = size;
  const names = MODALITIES.slice(0, modalities);
  const mixture = experts > 0 ? { experts: { [names[0]!]: experts } } : {};
  return { d_model, n_layers, ffn_dim, vocab, n_heads: d_model / 64, modalities: names, ...mixture };
}

/** The same numbers on every machine: a linear congruential generator, uniform in [0, 1). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/**
 * A batch of documents of `length` tokens, each with a target at every place. Modalities come in spans of 64 to 200
 * tokens, one after the other in turn of the modality that is furthest behind its share.
 */
export function makeBatch(
  { sequences, length, vocab }: Pick<ModelSize, 'sequences' | 'length' | 'vocab'>,
  modalities: number,
): Batch {
  const count = sequences * length;
  const random = randomNumbers(1);
  const array = (value: (i: number) => number): Int32Array<ArrayBuffer> =>
    Int32Array.from({ length: count }, (_, i) => value(i));
  const modality = new Int32Array(count);
  const taken = new Array<number>(modalities).fill(0);
  for (let begin = 0, last = -1; begin < count;) {
    const span = Math.min(64 + Math.floor(random() * 137), count - begin);
    let next = modalities === 1 ? 0 : -1;
    for (let m = 0; m < modalities; m++)
      if (m !== last && (next < 0 || taken[m]! / SHARES[m]! < taken[next]! / SHARES[next]!)) next = m;
    modality.fill(next, begin, begin + span);
    taken[next]! += span;
    last = next;
    begin += span;
  }
  return {
    token: array(() => Math.floor(random() * vocab)),
    modality,
    position: array((i) => i % length),
    kvStart: array((i) => i - (i % length)),
    kvEnd: array((i) => i + 1),
    target: array(() => Math.floor(random() * vocab)),
    targetModality: modality.slice(),
  };
}

/** Patches of an image: 16 x 16, as in the paper's Transfusion. */
const PATCHES = 256;

/**
 * One document in which text (modality 0) and images (modality 1) take turns, half of the tokens each: spans of 256, or of
 * half the sequence where that is shorter. Patches are predicted from noise, tokens from what comes before.
 */
export function makePatchBatch(
  { length, vocab }: Pick<ModelSize, 'length' | 'vocab'>,
  patchDim: number,
  timesteps: number,
): Batch {
  const random = randomNumbers(1);
  const span = Math.max(1, Math.min(PATCHES, Math.floor(length / 2)));
  let rows = 0;
  const patchRow = Int32Array.from({ length }, (_, i) => (Math.floor(i / span) % 2 === 1 ? rows++ : -1));
  const numbers = (count: number): Float32Array => Float32Array.from({ length: count }, () => 2 * random() - 1);
  return joinDocuments([
    {
      token: Int32Array.from({ length }, () => Math.floor(random() * vocab)),
      modality: patchRow.map((row) => (row < 0 ? 0 : 1)),
      patchRow,
      latent: numbers(rows * patchDim),
      noise: numbers(rows * patchDim),
      timestep: Int32Array.from(imageSpans(patchRow), () => Math.floor(random() * timesteps)),
    },
  ]);
}

/**
 * Useful FLOPs of forward and backward: 6 for each token and active matrix weight (2 forward, 2 each for d_x and d_w),
 * and for each layer and visible pair of query and key 12 x the width of all heads (2 products forward, 4 backward; what
 * backward computes again does not count). The head counts where there is a target; patches have their projections instead.
 */
export function stepFlops(input: ModelConfigInput, batch: Batch): number {
  const config = parseModelConfig(input);
  const tokens = batch.token.length;
  let pairs = 0;
  for (let i = 0; i < tokens; i++) pairs += batch.kvEnd[i]! - batch.kvStart[i]!;
  const { forward, backward, diffusion = { patch: 0, image: 0 } } = flopsPerToken(config, pairs / tokens);
  const withoutTarget = batch.target!.reduce((sum, target) => sum + (target < 0 ? 1 : 0), 0);
  const head = 6 * config.d_model * config.vocab;
  const patches =
    3 * (diffusion.patch * (batch.imageOfRow?.length ?? 0) + diffusion.image * (batch.timestep?.length ?? 0));
  return tokens * (forward + backward) - withoutTarget * head + patches;
}

/** The sizes as a case shows them. */
export function shapeOf(size: ModelSize, modalities: number, experts = 0): Shape {
  return { ...size, heads: size.d_model / 64, head_dim: 64, modalities, ...(experts > 0 ? { experts } : {}) };
}
