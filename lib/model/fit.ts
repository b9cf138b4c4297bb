import { CHECKPOINTING, type Checkpointing } from '../config/checkpointing.js';
import type { MachineMemory } from '../machine.js';
import type { ModelConfigInput } from '../config/model_config.js';
import { Model, type ModelOptions } from './model.js';

/** Memory of training in one way, bytes. */
export interface TrainingMemory {
  dtype: 'f32' | 'bf16';
  checkpointing: Checkpointing;
  /** By group of the plan, each tensor by itself. */
  groups: Record<string, number>;
  /** The one block that is reserved; less than the sum, because lifetimes overlap. */
  arenaBytes: number;
  /** What this machine's memory can hold. */
  fits: Fit;
}

/** The largest micro-batch that fits: `sequences` of `length` tokens; both 0 where not even one token does. */
export interface Fit {
  sequences: number;
  length: number;
}

/** Bytes kept free for Node.js, the data and the system. */
function reserve(limit: number): number {
  return Math.max(0.05 * limit, 2 ** 29);
}

/**
 * Memory of training with every number format and mode of activation checkpointing.
 *
 * @param shape Sequences at once, and tokens of each, of the plan.
 * @param options.ema Whether weights are averaged; default false.
 */
export function trainingMemory(
  config: ModelConfigInput,
  shape: { sequences: number; length: number },
  memory: MachineMemory,
  { ema = false }: Pick<ModelOptions, 'ema'> = {},
): TrainingMemory[] {
  const most = memory.limit - reserve(memory.limit);
  return (['f32', 'bf16'] as const).flatMap((dtype) =>
    CHECKPOINTING.map((checkpointing) => {
      const way = { dtype, checkpointing } as const;
      const options = { ...way, ema };
      const { plan, arenaBytes } = describe(config, shape, options);
      const groups: Record<string, number> = {};
      for (const { group, bytes } of plan) groups[group] = (groups[group] ?? 0) + bytes;
      return { ...way, groups, arenaBytes, fits: largestFit(config, shape.length, options, most) };
    }),
  );
}

/** The most sequences of `length` tokens within `most` bytes, or else the longest single sequence. */
function largestFit(config: ModelConfigInput, length: number, options: ModelOptions, most: number): Fit {
  const within = (shape: Fit): boolean => describe(config, shape, options).arenaBytes <= most;
  const sequences = largest(Math.floor(MOST_TOKENS / length), (count) => within({ sequences: count, length }));
  if (sequences > 0) return { sequences, length };
  const shorter = largest(length - 1, (tokens) => within({ sequences: 1, length: tokens }));
  return shorter > 0 ? { sequences: 1, length: shorter } : { sequences: 0, length: 0 };
}

/** As many tokens at once as `ModelOptions` allow. */
const MOST_TOKENS = 2 ** 26;

/** The largest number up to `most` that holds; 0 where 1 does not. What holds for a number holds for smaller ones. */
function largest(most: number, holds: (count: number) => boolean): number {
  let low = 0;
  let high = 1;
  while (high <= most && holds(high)) [low, high] = [high, 2 * high];
  high = Math.min(high, most + 1);
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (holds(middle)) low = middle;
    else high = middle;
  }
  return low;
}

function describe(
  config: ModelConfigInput,
  { sequences, length }: Fit,
  options: ModelOptions,
): ReturnType<typeof Model.describe> {
  return Model.describe(config, { ...options, tokens: sequences * length, positions: length });
}
