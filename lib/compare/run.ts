import type { DatasetManifest } from '../data/dataset.js';
import { readManifest } from '../data/manifest.js';
import type { PrepareProgress } from '../data/prepare_progress.js';
import { MotError } from '../errors.js';
import { machine } from '../machine.js';
import { Model } from '../model/model.js';
import { flopsPerToken } from '../model/flops.js';
import type { ModelConfig } from '../config/model_config.js';
import type { TrainConfig } from '../config/train_config.js';
import { latestCheckpoint } from '../train/checkpoint.js';
import { datasetFolder } from '../train/prepared.js';
import { silent, type Progress } from '../train/progress.js';
import { modelForDataset, modelOptions, runTraining } from '../train/run.js';
import { changedSettings } from '../train/run_folder.js';
import type { ComparisonPlan, PlannedRun } from './config.js';
import { writeState } from './folder.js';
import { RemainingTime } from './remaining.js';
import { FLOPS_TOLERANCE } from './results.js';

/** Keys that may change while a comparison is interrupted: nothing that it reports depends on them. */
const FREE_KEYS = new Set([
  'out',
  'data.dataset', // The fingerprint is compared instead.
  'train.checkpoint_every',
  'train.checkpoint_copy',
  'train.keep_checkpoints',
  'train.threads',
]);

/** Options of `runComparison`. */
export interface ComparisonOptions {
  /** Of every run. Default: silence. */
  progress?: Progress;
  /** Of preparing the embedded data set. Default: silence. */
  preparation?: PrepareProgress;
  /** Raised to finish the step, save and return. */
  stop?: AbortSignal;
  /** Told of the models before training begins. */
  onModels?: (models: ModelSummary[]) => void;
}

/** A model of a comparison, before it is trained. */
export interface ModelSummary {
  name: string;
  parameters: number;
  /** Forward and backward. */
  flopsPerToken: number;
  /** Over the baseline's. */
  flopsRatio: number;
  seeds: number[];
}

/** Where a comparison stands. */
export interface ComparisonResult {
  out: string;
  /** Runs that are finished, of all. */
  finished: number;
  runs: number;
}

/** A run that is known to fit its data. */
interface CheckedRun extends PlannedRun {
  model: string;
  modelConfig: ModelConfig;
  step: number;
}

/**
 * Trains every run of a comparison that is not finished, one after the other, each in its own folder. Everything is
 * checked before the first step: configs against the data set, runs that are there already against the config, and that
 * no document comes twice.
 *
 * @throws MotError ERR_CONFIG, ERR_DATA, ERR_FILE_WRITE, ERR_NOT_FINITE.
 */
export async function runComparison(
  comparison: ComparisonPlan,
  options: ComparisonOptions = {},
): Promise<ComparisonResult> {
  const { progress = silent, preparation, stop, onModels = () => {} } = options;
  const [firstRun] = comparison.runs;
  const dataset = await datasetFolder(firstRun!.config, {
    ...(preparation ? { progress: preparation } : {}),
    ...(stop ? { signal: stop } : {}),
  });
  const manifest = readManifest(dataset);
  const { documents, tokens } = manifest.splits.train;
  if (documents === 0)
    throw new MotError('ERR_DATA', 'the data set has no documents to train on; prepare more of them.');
  if (!comparison.allowRepeats) checkDocuments(firstRun!.config.train, documents, tokens);

  const runs = comparison.runs.map((run): CheckedRun => {
    const modelConfig = modelOf(run, manifest);
    const checkpoint = latestCheckpoint(run.config.out, () => {});
    const changes = checkpoint
      ? changedSettings(checkpoint, { ...run.config, model: modelConfig }, manifest.fingerprint, FREE_KEYS)
      : [];
    if (changes.length > 0)
      throw new MotError(
        'ERR_CONFIG',
        `this config does not continue the comparison in ${comparison.out}: of ${run.model}, ${changes.join('; ')}. ` +
          'Set it back, or start anew with another out=DIR.',
      );
    return { ...run, modelConfig, step: checkpoint?.state.step ?? 0 };
  });
  const summaries = summarize(comparison, runs, tokens / documents);
  onModels(summaries);
  for (const { name, flopsRatio } of summaries)
    if (Math.abs(flopsRatio - 1) > FLOPS_TOLERANCE)
      progress.say(
        `warning: a token of ${name} takes ${flopsRatio.toFixed(3)} times the FLOPs of ${comparison.baseline}; compare them over FLOPs.`,
      );
  const data = { name: manifest.name, fingerprint: manifest.fingerprint, documents, tokens };
  writeState(comparison.out, { config: comparison.source, data }, machine());

  const { steps } = firstRun!.config.train;
  let finished = runs.filter(({ step }) => step >= steps).length;
  const remaining = new RemainingTime(
    progress,
    runs.map(({ step }) => steps - step),
  );
  for (const [i, run] of runs.entries()) {
    if (run.step >= steps) continue;
    if (stop?.aborted) break;
    progress.say(`run ${i + 1} of ${runs.length}: ${run.model}, seed ${run.seed}`);
    const result = await runTraining(run.config, {
      resume: true,
      progress: remaining.during(i, `run ${i + 1} of ${runs.length}`),
      ...(stop ? { stop } : {}),
    });
    if (!result.finished) break;
    finished++;
  }
  return { out: comparison.out, finished, runs: runs.length };
}

/** The model of a run on the data set. MotError that names the model. */
function modelOf({ model, config }: PlannedRun, manifest: DatasetManifest): ModelConfig {
  try {
    return modelForDataset(config, manifest);
  } catch (cause) {
    if (!(cause instanceof MotError)) throw cause;
    throw new MotError(cause.code, `${model}: ${cause.message}`, { cause });
  }
}

/** Parameters and FLOPs of every model, the baseline first. */
function summarize(
  { baseline, models }: ComparisonPlan,
  runs: readonly CheckedRun[],
  documentLength: number,
): ModelSummary[] {
  const first = (name: string): CheckedRun => runs.find(({ model }) => model === name)!;
  const flops = (name: string): number =>
    trainingFlops(first(name).modelConfig, first(name).config.train, documentLength);
  return models.map((name) => {
    const { modelConfig, config } = first(name);
    return {
      name,
      parameters: Model.describe(modelConfig, modelOptions(config)).parameters,
      flopsPerToken: flops(name),
      flopsRatio: flops(name) / flops(baseline),
      seeds: runs.filter(({ model }) => model === name).map(({ seed }) => seed),
    };
  });
}

/** FLOPs of training a token, what checkpointing computes again included. @param length Mean tokens of a document. */
export function trainingFlops(model: ModelConfig, train: TrainConfig, length: number): number {
  const { forward, backward, again } = flopsPerToken(model, (length + 1) / 2);
  return forward + backward + again[train.checkpointing];
}

/** No comparison is decided by memory: all documents of a run are new. */
function checkDocuments(train: TrainConfig, documents: number, tokens: number): void {
  const most = Math.ceil((train.steps * train.sequences * train.seq_len * documents) / tokens);
  if (most > documents)
    throw new MotError(
      'ERR_CONFIG',
      `the runs read up to ${most} documents, but the data set has ${documents}, and a comparison must not be decided by memory: ` +
        `prepare more (data.prepare.documents=${most}), train fewer steps, or set compare.allow_repeats.`,
    );
}
