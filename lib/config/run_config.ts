import { basename, extname } from 'node:path';
import { z } from 'zod';
import { emojiOptionsSchema } from '../data/emoji/options.js';
import type { ImageMask } from '../data/packer.js';
import { MotError } from '../errors.js';
import type { Vocabulary } from '../modalities/vocabulary.js';
import { applyOverrides, isGroup, readConfigFile, type ConfigSource } from './file.js';
import { DIFFUSION_STEPS, parseModelConfig, type ModelConfig } from './model_config.js';
import { parseWith, show } from './parse.js';
import { findPreset, presetHint, type Preset } from './presets.js';
import { trainConfigSchema } from './train_config.js';

/** The name of the embedded data set; `data.dataset` is a folder otherwise. */
export const EMBEDDED = 'emoji';

/** Two ways to give the size of a step. */
const ALTERNATIVES = [['train.sequences', 'train.batch_tokens']] as const;

/** How messages call the model of a run config. */
const MODEL = 'model of the run config';

/** What a patch can see of its own image. */
export const IMAGE_MASKS = ['bidirectional', 'causal'] as const satisfies readonly ImageMask[];

/** The `data` part of a run config. */
export const dataConfigSchema = z.strictObject({
  /** `emoji`: the embedded set, prepared where it is missing; anything else: the folder of a prepared data set. */
  dataset: z.string().min(1).default(EMBEDDED),
  /** Options of `mot prepare emoji`. */
  prepare: emojiOptionsSchema.prefault({}),
  /** How documents with latents become batches. */
  diffusion: z
    .strictObject({
      /** What a patch sees of its own image: all of it, or only the patches before it. Generation does the same. */
      image_mask: z.enum(IMAGE_MASKS).default('bidirectional'),
      /** Share of documents that lose the caption before their image, for classifier-free guidance. */
      caption_dropout: z.number().min(0).max(1).default(0.1),
      /** Largest timestep of an image with its caption behind it, so that the caption sees what it is about. Default: any. */
      max_timestep_image_first: z.int().min(0).optional(),
    })
    .prefault({}),
});

/** The mask of images in a resolved run config, as checkpoints keep it; runs of earlier versions had none. */
export function imageMaskOf(config: Readonly<Record<string, unknown>>): ImageMask {
  const data = isGroup(config['data']) ? config['data'] : {};
  const diffusion = isGroup(data['diffusion']) ? data['diffusion'] : {};
  return diffusion['image_mask'] === 'causal' ? 'causal' : 'bidirectional';
}

/** A whole run: model, data, training, and where results go. */
export const runConfigSchema = z.strictObject({
  /**
   * The model; `vocab` and `modalities` follow from the data set and may be left out. `preset: NAME` stands for the
   * keys of a preset, under those that are given; likewise in `train`.
   */
  model: z.record(z.string(), z.unknown()).prefault({}),
  /** What it learns from. */
  data: dataConfigSchema.prefault({}),
  /** Steps, batch, optimiser, checkpoints and where it computes. */
  train: trainConfigSchema.prefault({}),
  /** Folder of the run. */
  out: z.string().min(1),
});

/** A resolved run config, all defaults filled in but what follows from the data set. Plain JSON. */
export type RunConfig = z.output<typeof runConfigSchema>;

/**
 * Reads a run config and puts `key=value` overrides over it. `out` is `runs/NAME` by default, after the file's name.
 *
 * @throws MotError ERR_FILE_OPEN, ERR_USAGE, ERR_CONFIG with the line or override and, for an unknown key, the nearest
 *   known one.
 */
export function readRunConfig(path: string, overrides: readonly string[] = []): RunConfig {
  return parseRunConfig(
    applyOverrides(readConfigFile(path), overrides, ALTERNATIVES),
    `runs/${basename(path, extname(path))}`,
  );
}

/** The run config of a preset: its model, its batch and optimiser, and overrides. MotError as `readRunConfig`. */
export function readPreset(name: string, overrides: readonly string[] = []): RunConfig {
  const value = {
    model: { preset: name },
    train: { preset: name },
    // So that settings of diffusion have their place.
    ...(findPreset(name)?.model.diffusion ? { data: { prepare: { latents: {} } } } : {}),
  };
  return parseRunConfig(applyOverrides({ value, where: () => '' }, overrides, ALTERNATIVES), `runs/${name}`);
}

/** The same from values in memory. */
export function parseRunConfig(source: ConfigSource, defaultOut: string): RunConfig {
  const config = parseWith(runConfigSchema, { out: defaultOut, ...withPresets(source) }, 'run config', {
    where: source.where,
  });
  checkModel(config, source.where);
  return config;
}

/** Tells mistakes in the model now, not after minutes of preparing data. What the data set decides is filled in. */
function checkModel({ data, model: given }: RunConfig, where: ConfigSource['where']): void {
  const { latents, spoken } = data.prepare;
  const modalities = latents || spoken === 0 ? ['text', 'image'] : ['text', 'image', 'speech'];
  const patchDim = latents && 3 * latents.patch_size ** 2;
  const model: RunConfig['model'] = { vocab: 2, modalities, ...given };
  if (data.dataset === EMBEDDED) Object.assign(model, diffusionOfRun(given, patchDim ? { image: patchDim } : {}));
  else {
    if (isGroup(given['diffusion'])) model['diffusion'] = { patch_dim: 1, ...given['diffusion'] };
    // Other data sets have modalities of their own; they are there already, and their model is checked against them.
    if (given['modalities'] === undefined) for (const key of ['towers', 'loss_weight', 'experts']) delete model[key];
  }
  const { diffusion } = parseModelConfig(model, { what: MODEL, where: (key) => where(['model', ...key]) });
  const steps = diffusion?.steps ?? DIFFUSION_STEPS;
  const cap = data.diffusion.max_timestep_image_first ?? 0;
  if (cap >= steps)
    throw new MotError(
      'ERR_CONFIG',
      `run config: ${where(['data', 'diffusion', 'max_timestep_image_first'])}data.diffusion.max_timestep_image_first is ${cap}, but timesteps are 0 to ${steps - 1}; lower it.`,
    );
}

/** What a preset stands for in each part of a run config. What follows from a data set is left to that. */
const PRESET_PARTS = {
  model: ({ model: { vocab: _, modalities: __, diffusion: ___, ...architecture } }: Preset): object => architecture,
  train: ({ train }: Preset): object => train,
};

/** Puts presets in the place of `model.preset` and `train.preset`. */
export function withPresets({ value, where }: ConfigSource): Record<string, unknown> {
  const all = { ...value };
  for (const [part, keysOf] of Object.entries(PRESET_PARTS)) {
    const given = value[part];
    if (typeof given !== 'object' || given === null || !Object.hasOwn(given, 'preset')) continue;
    const { preset: name, ...over } = given as Record<string, unknown>;
    const preset = typeof name === 'string' ? findPreset(name) : undefined;
    if (!preset)
      throw new MotError(
        'ERR_CONFIG',
        `run config: ${where([part, 'preset'])}${part}.preset: there is no preset ${show(name)}; ${presetHint(name)}.`,
      );
    all[part] = { ...keysOf(preset), ...over };
    if (part === 'train' && over['batch_tokens'] !== undefined && over['sequences'] === undefined)
      delete (all[part] as Record<string, unknown>)['sequences'];
  }
  return all;
}

/**
 * The model of a run, with what follows from its data set.
 *
 * @throws MotError ERR_CONFIG when the config says otherwise than the data set.
 */
export function modelOfRun(
  config: RunConfig,
  vocabulary: Pick<Vocabulary, 'size' | 'modalities' | 'continuous'>,
): ModelConfig {
  const { vocab = vocabulary.size, modalities = vocabulary.modalities } = config.model;
  if (vocab !== vocabulary.size)
    throw new MotError(
      'ERR_CONFIG',
      `model.vocab is ${String(vocab)}, but the data set has ${vocabulary.size} token ids; leave it out, it follows from the data.`,
    );
  if (JSON.stringify(modalities) !== JSON.stringify(vocabulary.modalities))
    throw new MotError(
      'ERR_CONFIG',
      `model.modalities are ${JSON.stringify(modalities)}, but the data set has ${JSON.stringify(vocabulary.modalities)}; leave them out, they follow from the data.`,
    );
  const diffusion = diffusionOfRun(config.model, vocabulary.continuous ?? {});
  return parseModelConfig({ ...config.model, vocab, modalities, ...diffusion }, { what: MODEL });
}

/** The `diffusion` part of a run's model: its modality and width follow from the data set. */
function diffusionOfRun(
  { diffusion: given }: RunConfig['model'],
  continuous: NonNullable<Vocabulary['continuous']>,
): { diffusion?: unknown } {
  const [entry] = Object.entries(continuous);
  if (entry === undefined) {
    if (given === undefined || given === null) return {};
    throw new MotError(
      'ERR_CONFIG',
      'model.diffusion is given, but the data set has no continuous modality; leave it out, or prepare latents (data.prepare.latents: {}).',
    );
  }
  const [name, patchDim] = entry;
  // What is no group of keys is left for the schema to refuse.
  if (given !== undefined && given !== null && !isGroup(given)) return {};
  const { modality = name, patch_dim = patchDim, ...rest } = given ?? {};
  if (modality !== name)
    throw new MotError(
      'ERR_CONFIG',
      `model.diffusion.modality is ${show(modality)}, but the continuous modality of the data set is ${name}; leave it out, it follows from the data.`,
    );
  if (patch_dim !== patchDim)
    throw new MotError(
      'ERR_CONFIG',
      `model.diffusion.patch_dim is ${show(patch_dim)}, but the latents of the data set are ${patchDim} wide; leave it out, it follows from the data.`,
    );
  return { diffusion: { modality, patch_dim, ...rest } };
}
