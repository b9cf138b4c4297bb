import { z } from 'zod';
import { parseWith } from '../config/parse.js';
import { ratesSchema } from '../config/rates.js';
import { SCHEDULES } from '../config/schedules.js';
import { packDocuments, type CountedBatch } from '../data/packer.js';
import { MotError } from '../errors.js';
import type { Document } from '../model/batch.js';
import type { Model } from '../model/model.js';
import { MetricsHook, type OnMetrics } from './hook.js';
import type { StepMetrics } from './metrics.js';
import { lrScales } from './rates.js';
import { trainStep } from './trainer.js';

const count = z.int().min(1);

const trainOptionsSchema = z
  .strictObject({
    /** Step to end with. Default: until the documents end; the learning rate then stays at `lr` after the warm-up. */
    steps: count.default(Infinity),
    /** Steps that this model was trained before; steps are counted on from there. Default 0. */
    startStep: z.int().min(0).default(0),
    /** Packed sequences of one step. Default 1. */
    sequences: count.optional(),
    /** Tokens of one step, in the place of `sequences`: the whole number of sequences that comes nearest, at least one. */
    batchTokens: count.optional(),
    /** Tokens of a sequence; no document may be longer. Default: as many as the model takes at once. */
    seqLen: count.optional(),
    /** Highest learning rate. Default 1e-3. */
    lr: z.number().gt(0).default(1e-3),
    /** Learning rate of the last step as a share of `lr`. Default 0.1. */
    minLrRatio: z.number().min(0).max(1).default(0.1),
    /** Steps of linear warm-up. Default 0. */
    warmupSteps: z.int().min(0).default(0),
    /** How the learning rate falls after the warm-up: `cosine` (default), `linear`, `exponential`, `wsd` or `constant`. */
    schedule: z.enum(SCHEDULES).default('cosine'),
    /** Of `wsd`: the share of the steps after the warm-up in which the learning rate falls. Default 0.1. */
    decayShare: z.number().gt(0).max(1).default(0.1),
    /** Learning rates by tower and part, as `train.rates` of a run config. Default: `lr` for all. */
    rates: ratesSchema.optional(),
    /** AdamW. Defaults 0.9, 0.95, 1e-8, 0.1. */
    beta1: z.number().min(0).lt(1).default(0.9),
    beta2: z.number().min(0).lt(1).default(0.95),
    eps: z.number().gt(0).default(1e-8),
    weightDecay: z.number().min(0).default(0.1),
    /** Largest global gradient norm; 0: no clipping. Default 1. */
    clip: z.number().min(0).default(1),
    /**
     * Decay of the average of the weights, after a warm-up as of `train.ema_decay` in a run config; needs a model created
     * with `ema: true`. Default: none.
     */
    emaDecay: z.number().gt(0).lt(1).optional(),
  })
  .refine(({ sequences, batchTokens }) => sequences === undefined || batchTokens === undefined, {
    path: ['batchTokens'],
    error: 'sequences and batchTokens both give the size of a step; leave one of them out',
  })
  .refine(({ schedule, minLrRatio }) => schedule !== 'exponential' || minLrRatio > 0, {
    path: ['minLrRatio'],
    error: 'an exponential schedule never reaches 0; give the last rate a share of lr, such as 0.1',
  });

/** Options of `train`. */
export type TrainOptions = z.input<typeof trainOptionsSchema> & {
  /** Ends training with ERR_ABORTED; the step that runs is undone. */
  signal?: AbortSignal;
  /** A logger of your own, called with the metrics of every step. What it throws becomes a warning of the process. */
  onMetrics?: OnMetrics;
};

/**
 * Trains a model on documents from any iterator, one step for each `sequences` packed sequences, and yields the metrics
 * of every step. Stop whenever you like by leaving the loop. Sequences that the model cannot take at once are computed
 * one after the other (gradient accumulation). Of documents with latents, images that have noise are learnt (`trainingNoise`
 * adds it), others only read.
 *
 * @throws MotError ERR_ARGUMENT for unknown options, ERR_LIMIT for sequences longer than the model takes, ERR_DATA for
 *   documents that do not fit, ERR_BATCH for tokens out of range, ERR_ABORTED.
 * @example
 * for await (const { step, loss } of train(model, documents(), { steps: 100, sequences: 8, seqLen: 64, lr: 3e-3 }))
 *   console.log(step, loss);
 */
export async function* train(
  model: Model,
  documents: Iterable<Document> | AsyncIterable<Document>,
  options: TrainOptions = {},
): AsyncGenerator<StepMetrics, void, undefined> {
  const { signal, onMetrics, ...rest } = options;
  const settings = parseWith(trainOptionsSchema, rest, 'options of train', { code: 'ERR_ARGUMENT' });
  const { tokens, positions } = model.limits;
  const { batchTokens, seqLen = Math.min(tokens, positions) } = settings;
  if (seqLen > Math.min(tokens, positions))
    throw new MotError(
      'ERR_LIMIT',
      `seqLen is ${seqLen}, but the model was created with tokens ${tokens} and positions ${positions}; create it with more.`,
    );
  const sequences =
    batchTokens === undefined ? (settings.sequences ?? 1) : Math.max(1, Math.round(batchTokens / seqLen));
  const atOnce = Math.floor(tokens / seqLen);
  const microSequences = Array.from({ length: sequences }, (_, i) => sequences - i).find(
    (size) => size <= atOnce && sequences % size === 0,
  )!;
  const scales =
    settings.rates && lrScales(model.config, model.tensors(), settings.rates, { what: 'rates', code: 'ERR_ARGUMENT' });
  const state = { step: settings.startStep, skipped: 0, cursor: 0 };
  const trainer = { model, modalities: model.config.modalities, settings: { ...settings, lrScales: scales }, state };
  const batches = packDocuments(documents, { sequences, seqLen, microSequences });
  const hook = onMetrics && new MetricsHook(onMetrics, (sentence) => process.emitWarning(sentence));
  const began = performance.now();
  try {
    let prepared = ahead(batches.next());
    while (state.step < settings.steps) {
      const { done, value } = await prepared;
      if (done) return;
      const running = trainStep(trainer, value, signal ? { signal } : {});
      running.catch(() => undefined);
      if (state.step + 1 < settings.steps) prepared = ahead(batches.next());
      const metrics = await running;
      metrics.elapsed = (performance.now() - began) / 1000;
      hook?.call(metrics);
      yield metrics;
    }
  } finally {
    await batches.return();
    await hook?.settle();
  }
}

/** The next batch is made while a step runs; its failure is reported when its turn comes. */
function ahead(next: Promise<IteratorResult<CountedBatch, void>>): Promise<IteratorResult<CountedBatch, void>> {
  next.catch(() => undefined);
  return next;
}
