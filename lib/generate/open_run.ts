import path from 'node:path';
import type { DatasetManifest } from '../data/dataset.js';
import { readManifest } from '../data/manifest.js';
import { MotError } from '../errors.js';
import { SafetensorsFile } from '../io/safetensors.js';
import { Model, type ModelConfigInput } from '../model/model.js';
import { loadTokenizers, type Tokenizers } from '../modalities/registry.js';
import { MODEL_FILE, openCheckpoint, type Checkpoint } from '../train/checkpoint.js';

/** A trained model with all that generation needs. Dispose it. */
export interface OpenedRun extends AsyncDisposable {
  model: Model;
  checkpoint: Checkpoint;
  /** Folder and manifest of the data set that it was trained on. */
  datasetFolder: string;
  manifest: DatasetManifest;
  tokenizers: Tokenizers;
}

/**
 * Loads a checkpoint for generation.
 *
 * @param where A run folder (its newest checkpoint) or a checkpoint folder.
 * @param options.approximateRouting Lets a model with expert choice generate, by token choice; see `approximate_routing`
 *   of `Model.create`. Default false: it loads, and refuses to generate.
 * @param options.slots Slots of the KV cache, given the tokenizers and the longest document; 0: no generation.
 * @param options.tokens Most tokens of one call, given the checkpoint. Default: 256.
 * @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT, ERR_DATA when its data set is another one now.
 */
export async function openRun(
  where: string,
  options: {
    threads?: number;
    approximateRouting?: boolean;
    slots: (tokenizers: Tokenizers, longestDocument: number) => number;
    tokens?: (checkpoint: Checkpoint) => number;
  },
): Promise<OpenedRun> {
  const checkpoint = openCheckpoint(where);
  const datasetFolder = checkpoint.state.dataset.folder;
  const manifest = readManifest(datasetFolder);
  if (manifest.fingerprint !== checkpoint.state.dataset.fingerprint)
    throw new MotError(
      'ERR_DATA',
      `the data set in ${datasetFolder} is another one than this checkpoint was trained on.`,
    );
  const tokenizers = await loadTokenizers(datasetFolder, manifest);
  const weights = path.join(checkpoint.path, MODEL_FILE);
  const file = await SafetensorsFile.open(weights);
  const config = file.metadata['config'];
  file.close();
  if (config === undefined) throw new MotError('ERR_FILE_FORMAT', `${weights} has no model config in its metadata.`);
  const slots = options.slots(tokenizers, manifest.longestDocument);
  const model = await Model.create(JSON.parse(config) as ModelConfigInput, {
    threads: options.threads ?? 0,
    tokens: options.tokens?.(checkpoint) ?? 256,
    kv_slots: slots,
    positions: Math.max(slots, manifest.longestDocument),
    training: false,
    approximate_routing: options.approximateRouting ?? false,
  });
  try {
    await model.load(weights, ['weight']);
  } catch (error) {
    await model.dispose();
    throw error;
  }
  return { model, checkpoint, datasetFolder, manifest, tokenizers, [Symbol.asyncDispose]: () => model.dispose() };
}
