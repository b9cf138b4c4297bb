import type { AnomalyConfig } from '../config/train_config.js';
import type { CountedBatch } from '../data/packer.js';
import type { Batch } from '../model/batch.js';
import type { Model, StepOptions } from '../model/model.js';
import { anomalySentence, AnomalyWatch } from './anomaly.js';
import type { TrainerState } from './checkpoint.js';
import type { CheckpointWriter } from './checkpoint_writer.js';
import { evaluate, poolLosses, type PooledLosses } from './evaluate.js';
import type { MetricsLine, StepMetrics, ValidationMetrics } from './metrics.js';
import { silent, type Progress } from './progress.js';
import { samplesFolder } from './samples.js';
import { emaDecayAt, learningRate, type Schedule } from './schedule.js';

/** How a step updates the weights; names and meaning as in the run config's `train`. */
export interface UpdateSettings extends Schedule {
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  clip: number;
  /** Default: weights are not averaged. */
  emaDecay?: number | undefined;
  /** Learning rate of each tensor as a share of that of the schedule. Default: 1 for all. */
  lrScales?: readonly number[] | undefined;
}

/** Settings of the loop. */
export interface LoopSettings extends UpdateSettings {
  validateEvery: number;
  checkpointEvery: number;
  anomaly: AnomalyConfig;
}

/** Everything that the loop works with. */
export interface Trainer {
  model: Model;
  modalities: readonly string[];
  settings: LoopSettings;
  /** Where to go on; changed in place after every step. */
  state: TrainerState;
  /** Batches from the state's cursor on, endless. The next one is made while a step runs. */
  batches: AsyncIterator<CountedBatch>;
  /** The data set, and the index of the document that the batches take at a cursor: to name what a batch was made of. */
  documents: { dataset: string; at(cursor: number): number };
  /** Batches of each split to watch. */
  validation: { split: string; batches: Batch[] }[];
  /** Takes every line of metrics. */
  record: (line: MetricsLine) => void;
  /** Saves model and state. */
  checkpoints: Pick<CheckpointWriter, 'save' | 'check' | 'settle'>;
  /** Generates samples every so many steps and after the last; false: `stop` came in between, and there are none. */
  samples?: { every: number; write(step: number): Promise<boolean> };
  progress?: Progress;
  /** Told of every step, before and after. */
  profiler?: { before(left: number): Promise<void>; after(step: number): Promise<void> };
  /** Raised to finish the step, save and return. */
  stop?: AbortSignal;
  /** Asked after every step; true: save now and go on. */
  saveNow?: () => boolean;
}

/**
 * Trains until `steps`, or until `stop` is raised. Results depend on the batches and settings alone, never on time:
 * the same from a checkpoint as without a break. The last step is always validated and saved. However it ends, a
 * checkpoint that is being written is waited for.
 *
 * @returns Whether the last step was reached.
 * @throws MotError ERR_NOT_FINITE, ERR_LOSS_SPIKE as `settings.anomaly` says; what model, data and disk throw.
 */
export async function runTrainer(trainer: Trainer): Promise<boolean> {
  const { settings, state, stop, checkpoints, progress = silent } = trainer;
  if (state.step >= settings.steps) return true;
  const watch = new AnomalyWatch(settings.anomaly, state.recent);
  let saved = state.step;
  const before = state.elapsed;
  const began = performance.now();
  progress.start(state.step, settings.steps);
  try {
    let prepared = prepare(trainer);
    while (state.step < settings.steps && !stop?.aborted) {
      checkpoints.check();
      const batch = await prepared;
      await trainer.profiler?.before(settings.steps - state.step);
      const begin = state.cursor;
      const running = trainStep(trainer, batch, watch.before());
      if (state.step + 1 < settings.steps) prepared = prepare(trainer);
      const metrics = await running;
      await trainer.profiler?.after(state.step);
      state.elapsed = before + (performance.now() - began) / 1000;
      metrics.elapsed = round(state.elapsed, 3);
      trainer.record(metrics);
      progress.step(metrics);
      const found = watch.after(metrics);
      if (found) {
        const { dataset, at } = trainer.documents;
        const documents = Array.from({ length: batch.cursor - begin }, (_, i) => at(begin + i));
        const anomaly = { ...found, documents };
        trainer.record(anomaly);
        if (anomaly.action === 'stopped') throw watch.error(anomaly, dataset);
        progress.say(anomalySentence(anomaly, dataset));
      }
      const last = state.step === settings.steps;
      if (last || due(state.step, settings.validateEvery)) await validate(trainer, progress);
      if (trainer.samples && (last || due(state.step, trainer.samples.every))) {
        if (await trainer.samples.write(state.step))
          trainer.record({ event: 'samples', step: state.step, folder: samplesFolder(state.step) });
      }
      // A model that may have diverged must not take the place of older checkpoints.
      const asked = !metrics.skipped && (trainer.saveNow?.() ?? false);
      if (last || asked || (due(state.step, settings.checkpointEvery) && !metrics.skipped)) {
        state.elapsed = before + (performance.now() - began) / 1000;
        const { step } = state;
        const done = (): void => progress.say(`step ${step}: saved, as asked; training goes on.`);
        await checkpoints.save(state, { last, ...(asked ? { done } : {}) });
        saved = step;
      }
    }
    await prepared.catch(() => undefined);
    await checkpoints.settle();
    if (saved < state.step) await checkpoints.save(state, { last: true });
  } catch (error) {
    // What has ended the run comes first; a checkpoint that is being written may still become whole.
    await checkpoints.settle().catch((failure: Error) => progress.say(failure.message));
    throw error;
  } finally {
    progress.stop();
  }
  return state.step === settings.steps;
}

function due(step: number, every: number): boolean {
  return every > 0 && step % every === 0;
}

/** Starts on the next batch; its failure is reported where the batch is needed. */
function prepare(trainer: Trainer): Promise<CountedBatch> {
  const batch = trainer.batches.next().then((result) => result.value as CountedBatch);
  batch.catch(() => undefined);
  return batch;
}

/** One step of training: advances the state and gives its metrics, `elapsed` left at 0. */
export async function trainStep(
  {
    model,
    modalities,
    settings,
    state,
  }: Pick<Trainer, 'model' | 'modalities'> & {
    settings: UpdateSettings;
    state: Pick<TrainerState, 'step' | 'skipped' | 'cursor'>;
  },
  batch: CountedBatch,
  options: StepOptions = {},
): Promise<StepMetrics> {
  const step = state.step + 1;
  const lr = learningRate(settings, step);
  const began = performance.now();
  const { beta1, beta2, eps, weightDecay, clip, lrScales } = settings;
  // Adam's bias correction counts the updates made, so a skipped step does not count; likewise the average's warm-up.
  const update = step - state.skipped;
  const emaDecay = settings.emaDecay === undefined ? undefined : emaDecayAt(settings.emaDecay, update);
  const optimizer = { lr, beta1, beta2, eps, weightDecay, clip, step: update, emaDecay, lrScales };
  const result = await model.step(batch.microBatches, optimizer, options);
  const seconds = (performance.now() - began) / 1000;
  const tokens = batch.microBatches.reduce((sum, micro) => sum + micro.token.length, 0);
  state.step = step;
  state.cursor = batch.cursor;
  if (!result.applied) state.skipped++;
  const pooled = poolLosses([result], modalities);
  return {
    step,
    loss: finite(result.loss),
    losses: finiteAll(pooled.losses),
    ...(result.balanceLoss === 0 ? {} : { balance_loss: finite(result.balanceLoss) }),
    ...diffusionLoss(pooled),
    grad_norm: finite(result.gradNorm),
    lr,
    ...(result.applied ? {} : { skipped: true as const }),
    tokens,
    tokens_per_second: round(tokens / seconds, 1),
    elapsed: 0,
    memory: round(process.memoryUsage.rss() / 1e6, 1),
  };
}

async function validate(trainer: Trainer, progress: Progress): Promise<void> {
  // Those that generation uses too.
  const weights = trainer.settings.emaDecay === undefined ? 'raw' : 'ema';
  for (const { split, batches } of trainer.validation) {
    const pooled = await evaluate(trainer.model, batches, trainer.modalities, weights);
    const metrics: ValidationMetrics = {
      event: 'validation',
      step: trainer.state.step,
      split,
      ...(weights === 'ema' ? { weights } : {}),
      loss: finite(pooled.loss),
      losses: finiteAll(pooled.losses),
      targets: pooled.targets,
      ...diffusionLoss(pooled),
    };
    trainer.record(metrics);
    progress.validation(metrics);
  }
}

function diffusionLoss({ diffusionLoss: value }: PooledLosses): { diffusion_loss?: number | null } {
  return value === undefined ? {} : { diffusion_loss: finite(value) };
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

function finiteAll(values: Record<string, number>): Record<string, number | null> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, finite(value)]));
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
