import { z } from 'zod';
import { CHECKPOINTING } from '../config/checkpointing.js';
import { parseWith } from '../config/parse.js';
import { MotError } from '../errors.js';
import { loadAddon } from '../native/load.js';
import type { NativeAbort, NativeAdamW } from '../native/types.js';

const createSchema = z.strictObject({
  /** `cpu`, or `reference`: plain loops, for comparison only. */
  device: z.enum(['cpu', 'reference']).default('cpu'),
  /** Number format of matrix products: `f32`, or `bf16` (accumulated in f32; weights stay f32). */
  dtype: z.enum(['f32', 'bf16']).default('f32'),
  /** 0: as many as this process may use. Results do not depend on it. */
  threads: z.int().min(0).max(256).default(0),
  /** Most tokens of one micro-batch, prefill or decode call. */
  tokens: z
    .int()
    .min(1)
    .max(2 ** 26)
    .default(2048),
  /** Slots of the KV cache, for `decode`; 0: none. */
  kv_slots: z
    .int()
    .min(0)
    .max(2 ** 28)
    .default(0),
  /** RoPE positions. Default: the larger of tokens and kv_slots. */
  positions: z
    .int()
    .min(1)
    .max(2 ** 28)
    .optional(),
  /** Most images of a call, where the config has `diffusion`. Default: tokens. */
  images: z
    .int()
    .min(1)
    .max(2 ** 26)
    .optional(),
  /** Whether there are gradients and optimiser state. */
  training: z.boolean().default(true),
  /** Whether there is an exponential moving average (EMA) of the weights, to which updates with `emaDecay` add. */
  ema: z.boolean().default(false),
  /**
   * What training computes again in backward rather than keep: `none`; `attention`, the attention branch; `block`, both
   * branches of a layer. Less memory, more time, the same bits.
   */
  checkpointing: z.enum(CHECKPOINTING).default('none'),
  /**
   * How `decode` treats a model with expert choice, whose experts would look at later tokens: false, it refuses with
   * ERR_UNSUPPORTED; true, every token goes to its most probable experts, ceil(capacity_factor) of them, as token choice
   * would send it. An approximation: the model was trained otherwise.
   */
  approximate_routing: z.boolean().default(false),
  /** Of the initial weights; null leaves them zero, to be loaded. */
  seed: z.int().min(0).nullable().default(0),
});

/** Options of `Model.create`. */
export type ModelOptions = z.input<typeof createSchema>;
/** The same with every value filled in. */
export type ResolvedModelOptions = z.output<typeof createSchema> & { positions: number; images: number };

/** Checks options and fills in defaults. MotError ERR_ARGUMENT. */
export function parseModelOptions(options: ModelOptions): ResolvedModelOptions {
  const parsed = parseWith(createSchema, options, 'options of Model.create', { code: 'ERR_ARGUMENT' });
  if (parsed.ema && !parsed.training)
    throw new MotError(
      'ERR_ARGUMENT',
      'options of Model.create: ema needs training: true; to run a model with its averaged weights, load their file as weights.',
    );
  const { tokens, kv_slots, positions = Math.max(tokens, kv_slots), images = tokens } = parsed;
  return { ...parsed, positions, images };
}

const adamwSchema = z.strictObject({
  /** Learning rate. */
  lr: z.number().min(0),
  /** Decay of the first moment. */
  beta1: z.number().min(0).lt(1).default(0.9),
  /** Decay of the second moment. */
  beta2: z.number().min(0).lt(1).default(0.95),
  eps: z.number().gt(0).default(1e-8),
  /** Decoupled decay of tensors of two dimensions. */
  weightDecay: z.number().min(0).default(0.1),
  /** Largest global gradient norm; 0: no clipping. */
  clip: z.number().min(0).default(1),
  /** Number of the update, from 1. */
  step: z.int().min(1),
  /**
   * Decay of the average of the weights at this update: ema += (1 - emaDecay) * (weight - ema). Needs a model created with
   * `ema`. Default: the average stays as it is.
   */
  emaDecay: z.number().min(0).max(1).optional(),
  /**
   * Learning rate of each tensor as a share of `lr`, in the order of `Model.tensors`. 0: frozen, that is, neither updated
   * nor decayed, and its gradient does not count in the global norm; `step` does not even compute those of frozen
   * projections, nor any below the lowest layer that trains. Default: 1 for all.
   */
  lrScales: z
    .array(z.number().min(0))
    .readonly()
    .transform((scales) => Float64Array.from(scales))
    .optional(),
});

/** Options of AdamW; `lr` and `step` have no default. */
export type AdamWOptions = z.input<typeof adamwSchema>;

/** Checks options and fills in defaults. MotError ERR_ARGUMENT. */
export function parseAdamW(options: AdamWOptions): NativeAdamW {
  return parseWith(adamwSchema, options, 'options of AdamW', { code: 'ERR_ARGUMENT' });
}

/** Options of every call that takes long. */
export interface CallOptions {
  /** Ends the call with ERR_ABORTED; weights and optimiser are then as they were before it. */
  signal?: AbortSignal;
}

/** Options of `Model.step`. */
export interface StepOptions extends CallOptions {
  /** Largest loss that is applied. Default Infinity. */
  maxLoss?: number;
  /** Largest global gradient norm, before clipping, that is applied. Default Infinity. */
  maxGradNorm?: number;
}

/**
 * Runs a native call that `signal` can abort.
 *
 * @throws MotError ERR_ABORTED whose cause is the signal's reason.
 */
export async function withSignal<T>(options: CallOptions, call: (abort: NativeAbort | null) => Promise<T>): Promise<T> {
  const { signal } = options;
  if (!signal) return call(null);
  const aborted = (): MotError =>
    new MotError('ERR_ABORTED', 'the call was aborted by its signal.', { cause: signal.reason });
  if (signal.aborted) throw aborted();
  const abort = loadAddon().createAbort();
  const listener = (): void => abort.abort();
  signal.addEventListener('abort', listener, { once: true });
  try {
    return await call(abort);
  } catch (error) {
    if ((error as MotError).code === 'ERR_ABORTED' && signal.aborted) throw aborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', listener);
  }
}
