import { z } from 'zod';
import { PARTS } from './model_config.js';

/** Parts without towers: the embedding of tokens, the output head, and what takes patches in and out and knows the timestep. */
export const OUTER_PARTS = ['embed_tokens', 'lm_head', 'diffusion'] as const;

const rateSchema = z.strictObject({
  /** Tower; default: every one, and the parts that have none. */
  tower: z.string().min(1).optional(),
  /**
   * Part: `self_attn` and `mlp` of every layer, each with the norm of its branch; `norms`, those norms where they have towers
   * of their own; `final`, the norm after the last layer; `embed_tokens`; `lm_head`; or `diffusion`, the layers around
   * those that take patches in and out. Default: every one.
   */
  part: z.enum([...PARTS, 'norms', ...OUTER_PARTS]).optional(),
  /** Learning rate as a share of `lr`. 0: frozen, that is, neither updated nor decayed, nor counted in the gradient norm. */
  scale: z.number().min(0),
});

/** Learning rates by tower and part; later entries win. */
export const ratesSchema = z.array(rateSchema).min(1);

/** One entry of `train.rates`. */
export type Rate = z.output<typeof rateSchema>;
