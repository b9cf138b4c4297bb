import { z } from 'zod';
import { CHECKPOINTING } from './checkpointing.js';
import { ratesSchema } from './rates.js';
import { SCHEDULES } from './schedules.js';

const CHECKPOINT_COPY = ['auto', 'always', 'never'] as const;

/** How checkpoints are written: see `checkpoint_copy`. */
export type CheckpointCopy = (typeof CHECKPOINT_COPY)[number];

const positive = z.number().gt(0);
const count = z.int().min(1);

const samplesSchema = z.strictObject({
  /** Steps between samples; the last step has them too. 0: none. */
  every: z.int().min(0).default(0),
  /** Samples of each modality. */
  count: count.max(16).default(2),
});

/** What to do about a step whose loss or gradient is not finite, or far above those of the steps before. */
export const anomalySchema = z.strictObject({
  /** Loss or gradient not finite. The step never changes anything; `skip`: training goes on; `stop`: it ends. */
  not_finite: z.enum(['skip', 'stop']).default('skip'),
  /**
   * A spike: `ignore`; `warn`, the step counts and is written down; `skip`, it changes nothing and training goes on;
   * `stop`, it changes nothing and training ends.
   */
  spike: z.enum(['ignore', 'warn', 'skip', 'stop']).default('warn'),
  /**
   * Loss or gradient norm is a spike above median + factor * deviation of the steps before: 1.4826 times their median
   * absolute deviation, but at least 2 % (loss) or 10 % (gradient norm) of the median.
   */
  factor: positive.default(10),
  /** How many of the steps before count; the first 20 are not judged. */
  window: z.int().min(20).default(100),
  /** So many steps in a row that changed nothing end the run. */
  most_skipped: count.default(5),
});

/** `train.anomaly`, every key with its value. */
export type AnomalyConfig = z.output<typeof anomalySchema>;

/**
 * The `train` part of a run config. Everything has a default; a step reads `sequences * seq_len` tokens at most.
 */
export const trainConfigSchema = z
  .strictObject({
    /** Training steps of the whole run; the learning rate follows from it. */
    steps: count.default(1000),
    /** Packed sequences of one step, over all micro-batches. Default 16. */
    sequences: count.optional(),
    /**
     * Tokens of one step, in the place of `sequences`: the whole number of sequences that comes nearest, at least one.
     * The tokens that they have room for; packing leaves some of them empty.
     */
    batch_tokens: count.optional(),
    /** Tokens of a packed sequence; no document may be longer. */
    seq_len: count.default(512),
    /** Sequences that are computed at once: less memory, same result up to rounding. Default: all `sequences`. */
    micro_sequences: count.optional(),
    /** Highest learning rate. */
    lr: positive.default(2e-3),
    /** Learning rate of the last step as a share of `lr`; `constant` does not heed it. */
    min_lr_ratio: z.number().min(0).max(1).default(0.1),
    /** Steps of linear warm-up before the rate falls. */
    warmup_steps: z.int().min(0).default(50),
    /**
     * How the learning rate falls after the warm-up: `cosine`, half a period; `linear`; `exponential`, by the same factor
     * every step; `wsd` (warm-up, stable, decay), not until the last steps, then linearly; `constant`, not at all.
     */
    schedule: z.enum(SCHEDULES).default('cosine'),
    /** Of `wsd`: the share of the steps after the warm-up in which the learning rate falls. */
    decay_share: z.number().gt(0).max(1).default(0.1),
    /**
     * Learning rates by tower and part, each a share of `lr`; later entries win, and what none names has `lr` itself. A scale
     * of 0 freezes: `[{ scale: 0 }, { tower: speech, scale: 1 }]` trains the tower `speech` alone. Default: `lr` for all.
     */
    rates: ratesSchema.optional(),
    /** AdamW's decay of the first moment. */
    beta1: z.number().min(0).lt(1).default(0.9),
    /** AdamW's decay of the second moment. */
    beta2: z.number().min(0).lt(1).default(0.95),
    /** AdamW's epsilon. */
    eps: positive.default(1e-8),
    /** Decoupled weight decay of matrices; norms have none. */
    weight_decay: z.number().min(0).default(0.1),
    /** Largest global gradient norm; 0: no clipping. */
    clip: z.number().min(0).default(1),
    /** Steps that are not finite, and loss spikes; each is written down with the documents of its batch. */
    anomaly: anomalySchema.prefault({}),
    /**
     * Decay of an exponential moving average (EMA) of the weights, such as 0.999: after every update it becomes
     * decay * average + (1 - decay) * weights. The first updates decay less, by (1 + n) / (10 + n) at update n, as
     * TensorFlow's ExponentialMovingAverage does, so that the initial weights are soon forgotten. Checkpoints then hold both,
     * and validation, `mot generate` and `mot eval` use the average. Default: no average.
     */
    ema_decay: z.number().gt(0).lt(1).optional(),
    /**
     * Weights to begin with instead of drawn ones: a run folder, a checkpoint, or a safetensors file. Moments, schedule and
     * data begin anew. Widths, layers and norms must be those of that model; modalities, towers and token ids need not:
     * each tower begins with the tower of its name, or with the only one that there is (so a dense model becomes a
     * Mixture of Transformers), and token ids are found again by special token and by modality. What is new is drawn.
     */
    from: z
      .union([
        z.string().min(1),
        z.strictObject({
          /** A run folder, a checkpoint, or a safetensors file. */
          path: z.string().min(1),
          /** Of a checkpoint with averaged weights: these (`ema`, the default) or those that training went on with. */
          weights: z.enum(['ema', 'raw']).optional(),
          /** By tower of this model: the tower of the other one to copy, or null to draw its weights anew. */
          towers: z.record(z.string(), z.string().nullable()).default({}),
        }),
      ])
      .optional(),
    /** Of initial weights and of the order of documents. */
    seed: z.int().min(0).default(0),
    /** Steps between validations, 0: only after the last step. */
    validate_every: z.int().min(0).default(100),
    /** Documents of each validation split, the same ones every time; 0: no validation. */
    validation_documents: z.int().min(0).default(256),
    /** Steps between checkpoints, 0: only after the last step. */
    checkpoint_every: z.int().min(0).default(200),
    /**
     * Whether a checkpoint is written from a copy of weights and moments, so that training waits for the copy only:
     * `auto`, where it takes at most half of the memory that is free; `always`; `never`, training waits for the disk.
     */
    checkpoint_copy: z.enum(CHECKPOINT_COPY).default('auto'),
    /** How many of the newest checkpoints stay. */
    keep_checkpoints: count.default(2),
    /** Also keep every checkpoint whose step is a multiple of this; 0: none. */
    keep_every: z.int().min(0).default(0),
    /**
     * Also keep the checkpoint with the lowest value of a metric, as `RUN/checkpoints/best`: `validation.loss`,
     * `heldout.losses.image` and so on. `checkpoint_every` must then be a multiple of `validate_every`.
     */
    keep_best: z
      .string()
      .regex(/^(validation|heldout)\.(loss|losses\.[a-z][a-z0-9_]*)$/, {
        error: 'must be validation.loss or heldout.loss, or those of a modality such as validation.losses.text',
      })
      .optional(),
    /**
     * Texts, pictures and sounds that are generated while it trains, from beginnings of documents that it does not train on,
     * into RUN/samples; the live page and the report show them. They take memory for a KV cache of one document, and are
     * of the weights of that step, not of their average (`ema_decay`).
     */
    samples: samplesSchema.prefault({}),
    /** Write TensorBoard event files into the run folder. */
    tensorboard: z.boolean().default(true),
    /** Number format of matrix products: `bf16` (accumulated in f32, weights f32) or `f32`. */
    dtype: z.enum(['bf16', 'f32']).default('bf16'),
    /**
     * Activation checkpointing, what backward computes again rather than keep: `none`; `attention`, the attention branch;
     * `block`, both branches of a layer. Less memory, more time, the same result; `mot describe` shows both.
     */
    checkpointing: z.enum(CHECKPOINTING).default('none'),
    /** `cpu`, or `reference`: plain loops, for comparison only. */
    device: z.enum(['cpu', 'reference']).default('cpu'),
    /** 0: as many as this process may use. Results do not depend on it. */
    threads: z.int().min(0).default(0),
  })
  .superRefine((train, context) => {
    const { batch_tokens, seq_len, micro_sequences: micro } = train;
    if (train.sequences !== undefined && batch_tokens !== undefined)
      context.addIssue({
        code: 'custom',
        path: ['batch_tokens'],
        message: `sequences ${train.sequences} and batch_tokens ${batch_tokens} both give the size of a step; leave one of them out`,
      });
    const sequences = sequencesOf(train);
    if (micro !== undefined && sequences % micro !== 0) {
      const given = batch_tokens === undefined ? '' : ` (batch_tokens ${batch_tokens} / seq_len ${seq_len})`;
      context.addIssue({
        code: 'custom',
        path: ['micro_sequences'],
        message: `${sequences} sequences${given} do not divide into micro-batches of ${micro}; choose a divisor`,
      });
    }
    const { keep_best, validate_every, validation_documents, checkpoint_every } = train;
    if (
      keep_best !== undefined &&
      (validation_documents === 0 || validate_every === 0 || checkpoint_every % validate_every !== 0)
    )
      context.addIssue({
        code: 'custom',
        path: ['keep_best'],
        message: `a checkpoint is judged by the validation of its step, but with validate_every ${validate_every}, validation_documents ${validation_documents} and checkpoint_every ${checkpoint_every} not every checkpoint has one; make checkpoint_every a multiple of validate_every`,
      });
    if (train.warmup_steps > train.steps)
      context.addIssue({
        code: 'custom',
        path: ['warmup_steps'],
        message: `a warm-up of ${train.warmup_steps} steps is longer than the run of ${train.steps}; set train.warmup_steps to ${train.steps} at most, or train.steps higher`,
      });
    if (train.schedule === 'exponential' && train.min_lr_ratio === 0)
      context.addIssue({
        code: 'custom',
        path: ['min_lr_ratio'],
        message: 'an exponential schedule never reaches 0; give the last rate a share of lr, such as 0.1',
      });
  })
  .transform(({ batch_tokens, from, ...train }) => {
    const sequences = sequencesOf({ ...train, batch_tokens });
    return {
      ...train,
      ...(from === undefined ? {} : { from: typeof from === 'string' ? { path: from, towers: {} } : from }),
      sequences,
      micro_sequences: train.micro_sequences ?? sequences,
    };
  });

function sequencesOf(train: {
  sequences?: number | undefined;
  batch_tokens?: number | undefined;
  seq_len: number;
}): number {
  const { sequences = 16, batch_tokens, seq_len } = train;
  return batch_tokens === undefined ? sequences : Math.max(1, Math.round(batch_tokens / seq_len));
}

/** A resolved `train` part: every key has its value. */
export type TrainConfig = z.output<typeof trainConfigSchema>;

/** A `train` part as one writes it. */
export type TrainConfigInput = z.input<typeof trainConfigSchema>;
