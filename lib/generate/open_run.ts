import path from 'node:path';
import type { DatasetManifest } from '../data/dataset.js';
import { readManifest } from '../data/manifest.js';
import { imageMaskOf } from '../config/run_config.js';
import type { ImageMask } from '../data/packer.js';
import { MotError } from '../errors.js';
import { SafetensorsFile } from '../io/safetensors.js';
import { Model, type ModelConfigInput, type WeightKind } from '../model/model.js';
import type { Codecs } from '../modalities/codec.js';
import { loadCodecs, loadTokenizers, type Tokenizers } from '../modalities/registry.js';
import { continuousModality } from '../modalities/vocabulary.js';
import { EMA_FILE, MODEL_FILE, openCheckpoint, type Checkpoint } from '../train/checkpoint.js';
import type { ImageGeneration } from './images.js';

/** A trained model with all that generation needs. Dispose it. */
export interface OpenedRun extends AsyncDisposable {
  model: Model;
  checkpoint: Checkpoint;
  /** Which weights of the checkpoint they are. */
  weights: WeightKind;
  /** Folder and manifest of the data set that it was trained on. */
  datasetFolder: string;
  manifest: DatasetManifest;
  tokenizers: Tokenizers;
  /** Of continuous modalities; empty where all are discrete. */
  codecs: Codecs;
  /** How images of a continuous modality are drawn, as the run was trained; absent where all are discrete. */
  images?: ImageGeneration;
}

/**
 * Loads a checkpoint for generation.
 *
 * @param where A run folder (its newest checkpoint) or a checkpoint folder.
 * @param options.approximateRouting Lets a model with expert choice generate, by token choice; see `approximate_routing`
 *   of `Model.create`. Default false: it loads, and refuses to generate.
 * @param options.weights `ema`, averaged weights, or `raw`, those that training went on with. Default: `ema` where the
 *   checkpoint has them.
 * @param options.slots Slots of the KV cache, given the tokenizers, the longest document and how images are drawn; 0: no
 *   generation.
 * @param options.tokens Most tokens of one call, given the checkpoint. Default: 256; two guided images always fit.
 * @throws MotError ERR_FILE_OPEN, also for averaged weights where there are none; ERR_FILE_FORMAT; ERR_DATA when its data
 *   set is another one now.
 */
export async function openRun(
  where: string,
  options: {
    threads?: number;
    approximateRouting?: boolean;
    weights?: WeightKind | undefined;
    slots: (tokenizers: Tokenizers, longestDocument: number, images: ImageGeneration | undefined) => number;
    tokens?: (checkpoint: Checkpoint) => number;
  },
): Promise<OpenedRun> {
  const checkpoint = openCheckpoint(where);
  const { weights = checkpoint.ema ? 'ema' : 'raw' } = options;
  if (weights === 'ema' && !checkpoint.ema)
    throw new MotError(
      'ERR_FILE_OPEN',
      `${checkpoint.path} has no averaged weights, because its run had no train.ema_decay; use its raw weights.`,
    );
  const datasetFolder = checkpoint.state.dataset.folder;
  const manifest = readManifest(datasetFolder);
  if (manifest.fingerprint !== checkpoint.state.dataset.fingerprint)
    throw new MotError(
      'ERR_DATA',
      `the data set in ${datasetFolder} is another one than this checkpoint was trained on.`,
    );
  const tokenizers = await loadTokenizers(datasetFolder, manifest);
  const weightsPath = path.join(checkpoint.path, weights === 'ema' ? EMA_FILE : MODEL_FILE);
  const file = await SafetensorsFile.open(weightsPath);
  const config = file.metadata['config'];
  file.close();
  if (config === undefined)
    throw new MotError('ERR_FILE_FORMAT', `${weightsPath} has no model config in its metadata.`);
  const codecs = await loadCodecs(datasetFolder, manifest);
  const images = imagesOf(manifest, codecs, imageMaskOf(checkpoint.state.config));
  const slots = options.slots(tokenizers, manifest.longestDocument, images);
  const model = await Model.create(JSON.parse(config) as ModelConfigInput, {
    threads: options.threads ?? 0,
    tokens: Math.max(options.tokens?.(checkpoint) ?? 256, 4 * (images?.patches ?? 0)),
    kv_slots: slots,
    positions: Math.max(slots, manifest.longestDocument),
    training: false,
    approximate_routing: options.approximateRouting ?? false,
  });
  try {
    await model.load(weightsPath, ['weight']);
  } catch (error) {
    await model.dispose();
    throw error;
  }
  return {
    model,
    checkpoint,
    weights,
    datasetFolder,
    manifest,
    tokenizers,
    codecs,
    ...(images ? { images } : {}),
    [Symbol.asyncDispose]: () => model.dispose(),
  };
}

/** How the images of a run are drawn: what they are follows from its data set, the mask from its config. */
export function imagesOf(
  { vocabulary }: DatasetManifest,
  codecs: Codecs,
  imageMask: ImageMask,
): ImageGeneration | undefined {
  const modality = continuousModality(vocabulary);
  if (modality === undefined) return undefined;
  const { patches, range } = codecs[modality.name]!;
  return { modality, patches, imageMask, ...(range ? { range } : {}) };
}
