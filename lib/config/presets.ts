import type { ModelConfigInput } from './model_config.js';
import { nearest } from './nearest.js';
import type { TrainConfigInput } from './train_config.js';

/** Model keys that a preset sets; `vocab`, `modalities` and `diffusion` where they do not follow from a data set. */
export type PresetModel = Omit<ModelConfigInput, 'vocab' | 'modalities'> &
  Partial<Pick<ModelConfigInput, 'vocab' | 'modalities'>>;

/** One setting of the paper (Liang et al. 2025, arXiv:2411.04996, tables 1 and 3 to 5), or one for the embedded data. */
interface Setting {
  about: string;
  model: Partial<PresetModel>;
  train: TrainConfigInput;
  /** Width, layers, heads; packed sequences of a global batch; steps. */
  sizes: Record<string, readonly [d: number, layers: number, heads: number, sequences: number, steps: number]>;
}

// Sequences of 4096 tokens, so that 384 of them are the paper's batch of 1.57M tokens. One is computed at once.
const PAPER_BATCH = { seq_len: 4096, micro_sequences: 1, warmup_steps: 4000, weight_decay: 0.1, clip: 1 } as const;

// The optimiser of Chameleon's own paper (arXiv:2405.09818), which does not say where its decay ends: a tenth here.
const CHAMELEON = {
  ...PAPER_BATCH,
  lr: 1e-4,
  schedule: 'exponential',
  min_lr_ratio: 0.1,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-5,
} as const;

// The Transfusion paper's optimiser, which the Mixture-of-Transformers paper repeats: 3e-4 down to 1.5e-5.
const TRANSFUSION = {
  ...PAPER_BATCH,
  lr: 3e-4,
  schedule: 'cosine',
  min_lr_ratio: 0.05,
  beta1: 0.9,
  beta2: 0.95,
  eps: 1e-8,
} as const;

/** Settings by name; widths of the feed-forward part follow from `d_model`. */
const SETTINGS: Record<string, Setting> = {
  chameleon: {
    about: 'text and images as tokens',
    // All ids together, the 8192 image codes included.
    model: { vocab: 65536, modalities: ['text', 'image'], z_loss: 1e-5 },
    train: CHAMELEON,
    sizes: {
      '37m': [256, 4, 8, 384, 160_000],
      '94m': [512, 8, 8, 256, 160_000],
      '443m': [1024, 24, 16, 384, 160_000],
      '1.5b': [2048, 24, 16, 512, 120_000],
      '7b': [4096, 32, 32, 768, 120_000],
    },
  },
  'chameleon-speech': {
    about: 'text, images and speech as tokens',
    model: { vocab: 65536, modalities: ['text', 'image', 'speech'], z_loss: 1e-5 },
    train: CHAMELEON,
    sizes: {
      '443m': [1024, 24, 16, 384, 160_000],
      // Of the ablations.
      '880m': [1536, 24, 24, 512, 120_000],
      '1.5b': [2048, 24, 16, 512, 120_000],
      '7b': [4096, 32, 32, 768, 120_000],
    },
  },
  transfusion: {
    about: 'text as tokens, images as latent patches by diffusion',
    // Patches of 2 x 2 latent pixels of 8 channels.
    model: { vocab: 32000, modalities: ['text', 'image'], diffusion: { modality: 'image', patch_dim: 32 } },
    train: TRANSFUSION,
    sizes: {
      '163m': [768, 16, 12, 512, 250_000],
      '760m': [1536, 24, 24, 512, 250_000],
      '1.4b': [2048, 24, 16, 512, 250_000],
      '7b': [4096, 32, 32, 512, 250_000],
    },
  },
  emoji: {
    about: 'the embedded data: text, pictures and speech as tokens',
    model: { z_loss: 1e-5 },
    train: { seq_len: 512, lr: 3e-3, warmup_steps: 50 },
    sizes: {
      tiny: [64, 2, 2, 8, 1000],
      small: [192, 4, 6, 16, 600],
      base: [256, 6, 8, 32, 4000],
    },
  },
};

/**
 * What towers a preset's model has, at the same FLOPs a token: one for each modality (`mot`, meant where a name ends
 * without a variant), one for all (`dense`), one whose feed-forward part is four experts that choose their tokens
 * (`moe-4x`), or one for each modality with such experts in that of text (`hybrid`).
 */
const VARIANTS: Record<string, Partial<PresetModel>> = {
  mot: { untied: true },
  dense: { untied: false },
  'moe-4x': { untied: false, experts: { shared: 4 } },
  hybrid: { untied: true, experts: { text: 4 } },
};

/** A named configuration: a setting in one size. */
export interface Preset {
  /** Without the variant: `chameleon-443m`. */
  name: string;
  /** One of `PRESET_VARIANTS`. */
  variant: string;
  about: string;
  /** What stands for `model.preset`. */
  model: PresetModel;
  /** What stands for `train.preset`: batch, steps and optimiser, the same for every variant. */
  train: TrainConfigInput;
}

/** Every setting and size, without variants. */
export const PRESETS: readonly string[] = Object.entries(SETTINGS).flatMap(([setting, { sizes }]) =>
  Object.keys(sizes).map((size) => `${setting}-${size}`),
);

/** What can follow a preset's name: `chameleon-443m-dense`. Without one, `mot`. */
export const PRESET_VARIANTS: readonly string[] = Object.keys(VARIANTS);

/**
 * A preset by its name, with or without a variant; undefined where there is none.
 *
 * @example
 * findPreset('chameleon-443m-dense')?.model.d_model; // 1024
 */
export function findPreset(name: string): Preset | undefined {
  const variant = PRESET_VARIANTS.find((ending) => name.endsWith(`-${ending}`)) ?? 'mot';
  const base = name.endsWith(`-${variant}`) ? name.slice(0, -variant.length - 1) : name;
  if (!PRESETS.includes(base)) return undefined;
  const cut = base.lastIndexOf('-');
  const { about, model, train, sizes } = SETTINGS[base.slice(0, cut)]!;
  const [d_model, n_layers, n_heads, sequences, steps] = sizes[base.slice(cut + 1)]!;
  return {
    name: base,
    variant,
    about,
    model: { d_model, n_layers, n_heads, ...VARIANTS[variant], ...structuredClone(model) },
    train: { ...train, sequences, steps },
  };
}

/** Every name that `findPreset` knows: without a variant, and with each. */
export function presetNames(): string[] {
  return [...PRESETS, ...PRESETS.flatMap((base) => PRESET_VARIANTS.map((variant) => `${base}-${variant}`))];
}

/** What to do about a name that is no preset: the nearest one, and how to see all. */
export function presetHint(name: unknown): string {
  const near = nearest(String(name), presetNames());
  return near === undefined ? '`mot describe` lists them' : `did you mean ${near}? \`mot describe\` lists all`;
}
