import { imageMaskOf } from '../config/run_config.js';
import { parseWith } from '../config/parse.js';
import { trainConfigSchema } from '../config/train_config.js';
import type { SplitName } from '../data/dataset.js';
import { emojiOptionsSchema } from '../data/emoji/options.js';
import { SceneReferences } from '../data/emoji/scene_references.js';
import { batchesOf, type DocumentTransform } from '../data/loader.js';
import { openSplit } from '../data/manifest.js';
import { validationNoise, withoutCaption } from '../data/noise.js';
import type { PackOptions } from '../data/packer.js';
import { silentPreparation, type PrepareProgress } from '../data/prepare_progress.js';
import { MotError } from '../errors.js';
import { generatorSlots, makeGenerator } from '../generate/generator.js';
import { openRun, type OpenedRun } from '../generate/open_run.js';
import type { WeightKind } from '../model/model.js';
import { checkpointFolder, type Checkpoint } from '../train/checkpoint.js';
import { evaluate, type PooledLosses } from '../train/evaluate.js';
import { evaluateScenes, type SceneMetrics } from './scenes.js';

/** `validation`: new scenes of known concepts. `heldout`: concepts that training never saw. */
export const EVALUATED_SPLITS = ['validation', 'heldout'] as const satisfies SplitName[];
export type EvaluatedSplit = (typeof EVALUATED_SPLITS)[number];

/** Options of {@link evaluateRun}. */
export interface EvaluateOptions {
  /** Step of the checkpoint. Default: the newest. */
  step?: number;
  /** Averaged weights or those that training went on with. Default: `ema` where the checkpoint has them. */
  weights?: WeightKind;
  /** Default: both. */
  splits?: readonly EvaluatedSplit[];
  /** Documents of a split whose losses are taken. Default: all. */
  documents?: number;
  /** Scenes of a split for which the model generates; 0: losses only. Default 200. */
  samples?: number;
  /** Of the draws. Default 0. */
  seed?: number;
  /** Lets a model with expert choice generate, by token choice; its losses stay those of expert choice. Default false. */
  approximateRouting?: boolean;
  /** Threads; 0: all. Results do not depend on it. Default 0. */
  threads?: number;
  progress?: PrepareProgress;
  signal?: AbortSignal;
}

/** What one split says of a model. */
export interface SplitEvaluation extends SceneMetrics {
  documents: number;
  /** By modality of the predicted token: nats a token, its exponential, and predicted tokens. */
  losses: Record<string, { loss: number; perplexity: number; tokens: number }>;
  /** Mean squared error of the prediction in continuous pictures, over pictures; only where there are such. */
  diffusionLoss?: number;
  /** The same with all before the first image left out: what patches know of each other, and not by their caption. */
  diffusionLossWithoutCaption?: number;
}

/** What {@link evaluateRun} finds. */
export interface RunEvaluation {
  run: string;
  checkpoint: string;
  step: number;
  weights: WeightKind;
  dataset: string;
  /** Whether its documents come from the user's own sources rather than from the embedded data. */
  ownData: boolean;
  seed: number;
  splits: Partial<Record<EvaluatedSplit, SplitEvaluation>>;
  /** What was not measured, and why. */
  skipped: { metric: string; reason: string }[];
}

/** Sequences that are generated side by side. */
const SEQUENCES = 32;

/**
 * Evaluates a trained model: losses, and what it generates of scenes beside what they show and say. The same seed gives the
 * same figures.
 *
 * @param run A run folder, or a checkpoint folder.
 * @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT, ERR_ABORTED.
 */
export async function evaluateRun(run: string, options: EvaluateOptions = {}): Promise<RunEvaluation> {
  const { splits = EVALUATED_SPLITS, documents = Infinity, samples = 200, seed = 0, threads = 0 } = options;
  const { progress = silentPreparation, signal } = options;
  await using opened = await openRun(options.step === undefined ? run : checkpointFolder(run, options.step), {
    threads,
    approximateRouting: options.approximateRouting ?? false,
    weights: options.weights,
    slots: (tokenizers, longestDocument, images) =>
      samples > 0 ? generatorSlots(tokenizers, longestDocument, SEQUENCES, images) : 0,
    tokens: (checkpoint) => packing(checkpoint).sequences * packing(checkpoint).seqLen,
  });
  const { manifest, checkpoint, datasetFolder } = opened;
  const result: RunEvaluation = {
    run,
    checkpoint: checkpoint.path,
    step: checkpoint.state.step,
    weights: opened.weights,
    dataset: datasetFolder,
    ownData: manifest.sources !== undefined,
    seed,
    splits: {},
    skipped: [],
  };
  const skip = (metric: string, reason: string): void => void result.skipped.push({ metric, reason });
  let scenes = samples > 0 ? await openScenes(opened, progress, skip) : undefined;
  const { tokenizers, codecs, images, model } = opened;
  const generator = makeGenerator(model, tokenizers, manifest.vocabulary, {
    seed,
    codecs,
    images,
    ...(signal ? { signal } : {}),
  });
  for (const split of splits) {
    if (manifest.splits[split].documents === 0) {
      skip(split, 'the data set has no documents of this split.');
      continue;
    }
    const losses = await splitLosses(opened, split, documents, progress);
    let metrics: SceneMetrics = {};
    try {
      if (scenes) metrics = await evaluateScenes(scenes, split, samples, generator, opened, { seed, progress, skip });
    } catch (error) {
      // A model that cannot generate still has losses.
      if (!(error instanceof MotError) || error.code !== 'ERR_UNSUPPORTED') throw error;
      skip('generation', error.message);
      scenes = undefined;
    }
    result.splits[split] = { ...losses, ...metrics };
  }
  return result;
}

/** The scenes of the data set; undefined, and said so, where it is not one whose scenes are known. */
async function openScenes(
  { manifest, checkpoint }: OpenedRun,
  progress: PrepareProgress,
  skip: (metric: string, reason: string) => void,
): Promise<SceneReferences | undefined> {
  if (manifest.sources) {
    skip('generation', 'what is right is known of scenes of the embedded data only, and these documents are your own.');
    return undefined;
  }
  try {
    // Data sets made by earlier versions do not hold their options; the run that made one does.
    const data = checkpoint.state.config['data'] as { prepare?: unknown } | undefined;
    const made = manifest.options ?? data?.prepare ?? {};
    const prepare = parseWith(emojiOptionsSchema, made, 'options of the emoji data set');
    return await SceneReferences.open(manifest.fingerprint, prepare, progress);
  } catch (error) {
    if (!(error instanceof MotError) || (error.code !== 'ERR_DATA' && error.code !== 'ERR_CONFIG')) throw error;
    skip('generation', error.message);
    return undefined;
  }
}

/** Documents are packed as the run's validation packs them: with expert choice losses depend on it. */
function packing({ state }: Checkpoint): PackOptions {
  const { micro_sequences, seq_len } = trainConfigSchema.parse(state.config['train'] ?? {});
  return { sequences: micro_sequences, seqLen: seq_len, imageMask: imageMaskOf(state.config) };
}

async function splitLosses(
  { model, manifest, checkpoint, datasetFolder }: OpenedRun,
  split: EvaluatedSplit,
  limit: number,
  progress: PrepareProgress,
): Promise<Pick<SplitEvaluation, 'documents' | 'losses' | 'diffusionLoss' | 'diffusionLossWithoutCaption'>> {
  const source = await openSplit(datasetFolder, manifest, split);
  try {
    const timesteps = model.config.diffusion?.steps;
    const { vocabulary } = manifest;
    const measure = async (what: string, transform?: DocumentTransform): Promise<PooledLosses> => {
      const batches = batchesOf(source, { ...packing(checkpoint), ...(transform ? { transform } : {}) }, limit);
      const stage = progress.stage(`${split}: ${what}`, batches.length);
      const counted = function* () {
        for (const batch of batches) {
          yield batch;
          stage.advance();
        }
      };
      const pooled = await evaluate(model, counted(), vocabulary.modalities);
      stage.end();
      return pooled;
    };
    const noise = timesteps ? validationNoise({ steps: timesteps }) : undefined;
    const { losses, targets, diffusionLoss } = await measure('losses', noise);
    const uncaptioned =
      noise &&
      (await measure('losses without captions', (document, index, epoch) =>
        noise(withoutCaption(document, vocabulary), index, epoch),
      ));
    return {
      documents: Math.min(limit, source.documents),
      losses: Object.fromEntries(
        Object.entries(losses).map(([name, loss]) => [
          name,
          { loss, perplexity: Math.exp(loss), tokens: targets[name]! },
        ]),
      ),
      ...(diffusionLoss === undefined ? {} : { diffusionLoss }),
      ...(uncaptioned?.diffusionLoss === undefined ? {} : { diffusionLossWithoutCaption: uncaptioned.diffusionLoss }),
    };
  } finally {
    source.close();
  }
}
