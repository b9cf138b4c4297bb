import { join } from 'node:path';
import { looksAhead, type ModelConfig } from '../config/model_config.js';
import { modelOfRun, type RunConfig } from '../config/run_config.js';
import type { DatasetManifest, SplitName } from '../data/dataset.js';
import { batchesOf, Loader } from '../data/loader.js';
import { openSplit, readManifest } from '../data/manifest.js';
import { trainingNoise, validationNoise } from '../data/noise.js';
import type { PrepareProgress } from '../data/prepare_progress.js';
import type { ShardSource } from '../data/shard.js';
import { MotError } from '../errors.js';
import { imagesOf } from '../generate/open_run.js';
import { Model, type ModelOptions } from '../model/model.js';
import { loadCodecs, loadTokenizers } from '../modalities/registry.js';
import { BestMetric } from './best.js';
import { checkpointFolder, EMA_FILE, MODEL_FILE, OPTIMIZER_FILE, type Keep, type TrainerState } from './checkpoint.js';
import { CheckpointWriter } from './checkpoint_writer.js';
import { StartWeights, vocabularyMetadata } from './from.js';
import { MetricsHook, type OnMetrics } from './hook.js';
import { isStep, type MetricsLine } from './metrics.js';
import { silent, type Progress } from './progress.js';
import { StepProfiler, type OpSummary } from './profile.js';
import { datasetFolder } from './prepared.js';
import { lrScales } from './rates.js';
import { resourceWarnings } from './resources.js';
import { openRunFolder } from './run_folder.js';
import { TrainingSamples, type SampleSetup } from './samples.js';
import { EventFile } from './tensorboard.js';
import { runTrainer, type Trainer } from './trainer.js';

/** Options of `runTraining`. */
export interface RunOptions {
  /** Go on from the newest checkpoint of the run folder, or start where there is none. Default false. */
  resume?: boolean;
  /** Default: silence. */
  progress?: Progress;
  /** Of preparing the embedded data set. Default: silence. */
  preparation?: PrepareProgress;
  /** Raised to finish the step, save and return. */
  stop?: AbortSignal;
  /** Asked after every step; true: save a checkpoint now and go on. */
  saveNow?: () => boolean;
  /** A logger of your own, called with every line of metrics. Default: none. */
  onMetrics?: OnMetrics;
  /** File for a Chrome trace of three steps, every op with its time, FLOPs, bytes and share of the limit. */
  profile?: string;
}

/** Where a run stands. */
export interface RunResult {
  /** Folder of the run. */
  out: string;
  /** Steps done. */
  step: number;
  /** Whether that is all of them. */
  finished: boolean;
  /** The newest checkpoint. */
  checkpoint: string;
  /** The last step, the last validation of each split, and the last anomaly where there was one. */
  last: MetricsLine[];
  /** The ops of the profiled steps, the dearest first; only with `profile`. */
  ops?: OpSummary[];
}

/** Splits that training does not see; both are watched. */
const WATCHED: readonly SplitName[] = ['validation', 'heldout'];

/**
 * A whole training run into its folder, as `mot train` does it. Prepares the embedded data set where it is missing.
 * Everything follows from the config: with the same one, and the same kind of processor, losses and weights are the same
 * bits, however often the run was stopped and resumed.
 *
 * @throws MotError ERR_USAGE when `out` holds a run and `resume` is not set, ERR_CONFIG, ERR_DATA, ERR_FILE_WRITE,
 *   ERR_NOT_FINITE, ERR_LOSS_SPIKE.
 */
export async function runTraining(config: RunConfig, options: RunOptions = {}): Promise<RunResult> {
  const { resume = false, progress = silent, preparation, stop, saveNow, profile, onMetrics } = options;
  const dataset = await datasetFolder(config, {
    ...(preparation ? { progress: preparation } : {}),
    ...(stop ? { signal: stop } : {}),
  });
  const manifest = readManifest(dataset);
  const { train } = config;
  const modelConfig = modelForDataset(config, manifest);
  checkKeepBest(train.keep_best, manifest);
  const size = Model.describe(modelConfig, modelOptions(config));
  const scales =
    train.rates && lrScales(modelConfig, size.tensors, train.rates, { what: 'train.rates', code: 'ERR_CONFIG' });
  const averages = train.ema_decay !== undefined;
  const resolved = { ...config, model: modelConfig };
  const say = (sentence: string): void => progress.say(sentence);
  const folder = openRunFolder(config.out, { ...resolved }, manifest.fingerprint, resume, say);
  for (const warning of resourceWarnings(config, size)) say(`warning: ${warning}`);
  const best = train.keep_best === undefined ? undefined : new BestMetric(train.keep_best);
  for (const line of folder.lines) best?.add(line);
  const hook = onMetrics && new MetricsHook(onMetrics, say);
  const keep: Keep = {
    newest: train.keep_checkpoints,
    every: train.keep_every,
    ...(best ? { best: (steps) => best.best(steps) } : {}),
  };
  let events: EventFile | undefined;
  const last = new Map<string, MetricsLine>();
  const sources: ShardSource[] = [];
  const open = async (split: SplitName): Promise<ShardSource> => {
    const source = await openSplit(dataset, manifest, split);
    sources.push(source);
    return source;
  };
  try {
    // A run that goes on has its weights; those that it began with may be gone.
    using start =
      train.from && !folder.checkpoint ? await StartWeights.open(train.from, modelConfig, manifest) : undefined;
    await using model = await Model.create(modelConfig, modelOptions(config));
    if (start) {
      await start.load(model, { ema: averages });
      say(start.sentence);
    }
    const state: TrainerState = folder.checkpoint?.state ?? {
      step: 0,
      skipped: 0,
      cursor: 0,
      seed: train.seed,
      config: {},
      recent: { loss: [], grad_norm: [], skipped: 0 },
      elapsed: 0,
      dataset: { folder: dataset, fingerprint: manifest.fingerprint },
    };
    state.config = { ...resolved };
    state.dataset.folder = dataset;
    if (train.tensorboard) events = EventFile.open(config.out, state.step);
    const profiler =
      profile === undefined ? null : new StepProfiler(profile, model, config.train.dtype, config.train.threads);
    if (folder.checkpoint) {
      const checkpoint = folder.checkpoint.path;
      await model.load(join(checkpoint, MODEL_FILE));
      await model.load(join(checkpoint, OPTIMIZER_FILE), ['m', 'v']);
      if (averages) await model.load(join(checkpoint, EMA_FILE), ['ema']);
      hook?.call({ event: 'resumed_from', step: state.step, checkpoint });
      say(`resumed_from step ${state.step}: ${checkpoint}`);
    }
    const { image_mask, caption_dropout, max_timestep_image_first } = config.data.diffusion;
    const { steps: timesteps } = modelConfig.diffusion ?? {};
    const noise = timesteps && {
      steps: timesteps,
      seed: train.seed,
      captionDropout: caption_dropout,
      ...(max_timestep_image_first === undefined ? {} : { maxTimestepImageFirst: max_timestep_image_first }),
    };
    const pack = {
      imageMask: image_mask,
      sequences: train.sequences,
      seqLen: train.seq_len,
      microSequences: train.micro_sequences,
    };
    const validation: Trainer['validation'] = [];
    for (const split of WATCHED) {
      if (train.validation_documents === 0 || manifest.splits[split].documents === 0) continue;
      // A micro-batch at a time: evaluation then needs no more memory than a training step.
      const batches = batchesOf(
        await open(split),
        {
          ...pack,
          sequences: train.micro_sequences,
          ...(timesteps ? { transform: validationNoise({ steps: timesteps }) } : {}),
        },
        train.validation_documents,
      );
      validation.push({ split, batches });
    }
    const samples = await openSamples(config, dataset, manifest, model, open, say, stop);
    const loader = new Loader(await open('train'), {
      ...pack,
      seed: train.seed,
      ...(noise ? { transform: trainingNoise(manifest.vocabulary, noise) } : {}),
    });
    const finished = await runTrainer({
      model,
      modalities: modelConfig.modalities,
      settings: {
        steps: train.steps,
        lr: train.lr,
        minLrRatio: train.min_lr_ratio,
        warmupSteps: train.warmup_steps,
        schedule: train.schedule,
        decayShare: train.decay_share,
        beta1: train.beta1,
        beta2: train.beta2,
        eps: train.eps,
        weightDecay: train.weight_decay,
        clip: train.clip,
        emaDecay: train.ema_decay,
        lrScales: scales,
        validateEvery: train.validate_every,
        checkpointEvery: train.checkpoint_every,
        anomaly: train.anomaly,
      },
      state,
      batches: loader.batches(state.cursor),
      documents: { dataset, at: (cursor) => loader.documentAt(cursor) },
      validation,
      ...(samples ? { samples } : {}),
      record(line) {
        folder.metrics.append(line);
        events?.append(line);
        hook?.call(line);
        best?.add(line);
        last.set(isStep(line) ? 'step' : `${line.event} ${'split' in line ? line.split : ''}`, line);
      },
      checkpoints: new CheckpointWriter({
        model,
        run: config.out,
        keep,
        copy: train.checkpoint_copy,
        ema: averages,
        metadata: vocabularyMetadata(manifest),
        before() {
          folder.metrics.sync();
          events?.sync();
        },
        say,
      }),
      progress,
      ...(profiler ? { profiler } : {}),
      ...(stop ? { stop } : {}),
      ...(saveNow ? { saveNow } : {}),
    });
    const ops = await profiler?.finish();
    return {
      out: config.out,
      step: state.step,
      finished,
      // The last step is always saved.
      checkpoint: state.step === 0 ? '' : checkpointFolder(config.out, state.step),
      last: [...last.values()],
      ...(ops ? { ops } : {}),
    };
  } finally {
    await hook?.settle();
    events?.close();
    folder.metrics.close();
    for (const source of sources) source.close();
  }
}

/** What writes the samples of a run; undefined where it has none. */
async function openSamples(
  { out, train, data }: RunConfig,
  dataset: string,
  manifest: DatasetManifest,
  model: Model,
  open: (split: SplitName) => Promise<ShardSource>,
  say: (sentence: string) => void,
  stop: AbortSignal | undefined,
): Promise<Trainer['samples']> {
  const { every, count } = train.samples;
  if (every === 0) return undefined;
  if (looksAhead(model.config)) {
    say('no samples while it trains: with expert choice the model looks ahead and cannot generate.');
    return undefined;
  }
  const tokenizers = await loadTokenizers(dataset, manifest);
  const codecs = await loadCodecs(dataset, manifest);
  const images = imagesOf(manifest, codecs, data.diffusion.image_mask);
  const setup: SampleSetup = {
    model,
    manifest,
    tokenizers,
    codecs,
    // Those that validation sees.
    weights: train.ema_decay === undefined ? 'raw' : 'ema',
    seed: train.seed,
    ...(images ? { images } : {}),
  };
  const source = await open(manifest.splits.validation.documents > 0 ? 'validation' : 'train');
  const samples = await TrainingSamples.open(out, setup, source, count);
  const write = async (step: number): Promise<boolean> => {
    try {
      await samples.write(step, stop);
      return true;
    } catch (error) {
      if (stop?.aborted && error instanceof MotError && error.code === 'ERR_ABORTED') return false;
      throw error;
    }
  };
  return { every, write };
}

/** The model of a run on its data set. MotError ERR_CONFIG when the two do not go together. */
export function modelForDataset(config: RunConfig, manifest: DatasetManifest): ModelConfig {
  const { seq_len } = config.train;
  if (manifest.longestDocument > seq_len)
    throw new MotError(
      'ERR_CONFIG',
      `train.seq_len is ${seq_len}, but the longest document has ${manifest.longestDocument} tokens; raise it to that.`,
    );
  return modelOfRun(config, manifest.vocabulary);
}

/** The metric of `keep_best` must be one that this data set gives. */
function checkKeepBest(name: string | undefined, manifest: DatasetManifest): void {
  if (name === undefined) return;
  const [split, , modality] = name.split('.') as [SplitName, string, string?];
  if (manifest.splits[split].documents === 0)
    throw new MotError('ERR_CONFIG', `train.keep_best is ${name}, but the data set has no ${split} documents.`);
  const { modalities } = manifest.vocabulary;
  if (modality !== undefined && !modalities.includes(modality))
    throw new MotError(
      'ERR_CONFIG',
      `train.keep_best is ${name}, but the modalities of the data set are ${modalities.join(', ')}.`,
    );
}

/** Limits and number format of the model of a run. */
export function modelOptions({ train, model }: RunConfig): ModelOptions {
  const tokens = train.micro_sequences * train.seq_len;
  // Samples take one document at a time; an image by diffusion a second one, for guidance, and both in one call.
  const diffusion = model['diffusion'] !== undefined && model['diffusion'] !== null;
  const sampled = train.samples.every > 0;
  return {
    device: train.device,
    dtype: train.dtype,
    checkpointing: train.checkpointing,
    threads: train.threads,
    tokens: sampled && diffusion ? Math.max(tokens, 2 * train.seq_len) : tokens,
    ...(sampled ? { kv_slots: diffusion ? 2 * train.seq_len + 2 : train.seq_len } : {}),
    positions: train.seq_len,
    seed: train.seed,
    ema: train.ema_decay !== undefined,
  };
}
