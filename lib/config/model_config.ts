import { z } from 'zod';
import { MotError } from '../errors.js';
import type { NativeExperts, NativeModelConfig, NativePart } from '../native/types.js';
import { parseWith, type KeyPath } from './parse.js';

// Bounds as in native/model/config.cpp: far above any machine, far below an overflow.
const width = z
  .int()
  .min(1)
  .max(2 ** 20);
const positive = z.number().gt(0);

/** Parts of the model that can have weights of their own for each modality. */
export const PARTS = ['self_attn', 'mlp', 'final'] as const;
export type Part = (typeof PARTS)[number];
/** A part, or the norms of the branches where these have towers of their own. */
export type PartOrNorms = Part | 'norms';

const NAME = /^[a-z][a-z0-9_]*$/;
const SHARED = 'shared';

const name = z.string().refine((value) => NAME.test(value) && value !== SHARED, {
  error: (issue) =>
    `${JSON.stringify(issue.input)} cannot name a modality; use a-z, then a-z, 0-9 and _, and not ${JSON.stringify(SHARED)}`,
});
const towerName = z.string().refine((value) => NAME.test(value), {
  error: (issue) => `${JSON.stringify(issue.input)} cannot name a tower; use a-z, then a-z, 0-9 and _`,
});
const towerMap = z.record(z.string(), towerName);

/** Timesteps of a noise schedule where a config does not say. */
export const DIFFUSION_STEPS = 1000;

/** What a model with diffusion may predict. */
export const PREDICTIONS = ['noise', 'velocity'] as const;
export type Prediction = (typeof PREDICTIONS)[number];

/** Most experts of a tower, as in native/ops/routing.h. */
const MAX_EXPERTS = 256;
const expertCount = z.int().min(1).max(MAX_EXPERTS);
const expertsSchema = z.strictObject({
  /** Weight sets of the tower's MLP. */
  count: expertCount,
  /**
   * `expert_choice`: every expert takes the tokens that its router likes best, all equally many; it looks ahead, so it
   * cannot generate. `token_choice`: every token takes the experts that it likes best; causal.
   */
  routing: z.enum(['expert_choice', 'token_choice']).default('expert_choice'),
  /** Expert choice: experts that a token gets in the mean; an expert takes ceil(tokens * capacity_factor / count). */
  capacity_factor: positive.max(MAX_EXPERTS).default(1),
  /** Token choice: experts of a token. */
  top_k: expertCount.default(1),
  /** Token choice: weight of the load-balance loss, count * sum of (share of tokens * mean probability), of each layer. */
  balance_loss: z.number().min(0).default(0.01),
});

/** The `diffusion` part of a model config. */
export const diffusionSchema = z.strictObject({
  /** The modality of the patches. */
  modality: z.string().default('image'),
  /** Numbers of one patch. */
  patch_dim: width,
  /** Timesteps of the cosine noise schedule. */
  steps: z
    .int()
    .min(1)
    .max(2 ** 20)
    .default(DIFFUSION_STEPS),
  /** Weight of the diffusion loss beside the language loss. */
  weight: z.number().min(0).default(5),
  /**
   * What is predicted of a noisy patch sqrt(a) x + sqrt(1 - a) noise: `noise`, as in the paper, or `velocity`,
   * sqrt(a) noise - sqrt(1 - a) x (Salimans and Ho 2022), which is learnt sooner where noise prevails.
   */
  prediction: z.enum(PREDICTIONS).default('noise'),
});

/** Keys of a model config; those with a default are optional. */
export const modelConfigShape = {
  /** Token ids, of all modalities together. */
  vocab: z
    .int()
    .min(1)
    .max(2 ** 28),
  /** Width of the residual stream. */
  d_model: width,
  /** Layers: attention and a feed-forward part each. */
  n_layers: z.int().min(1).max(4096),
  /** Query heads. */
  n_heads: width,
  /** Key and value heads, a divisor of n_heads. Default: n_heads. */
  n_kv_heads: width.optional(),
  /** Width of a head, a multiple of 8. Default: d_model / n_heads. */
  head_dim: width.optional(),
  /** Width of the feed-forward part. Default, as in Llama: 8/3 of d_model, rounded up to a multiple of 256. */
  ffn_dim: width.optional(),
  /** Names of the modalities; a batch counts them from 0. */
  modalities: z.array(name).min(1).max(256),
  /**
   * Which parts have one tower a modality; `true`: all (Mixture of Transformers, the default), `false`: none (dense).
   * `final` is the norm before the head, `norms` those of the two branches (`attention_norm`, `ffn_norm`); without
   * `norms` each of these goes with its branch, as those of queries and keys always do. So the paper's ablation
   * (feed-forward; and Q, K, V, O; and norms) is `{self_attn: false, norms: false, final: false}`,
   * `{norms: false, final: false}`, `true`.
   */
  untied: z
    .union([
      z.boolean(),
      z.strictObject({
        /** Attention: its projections, and the norms of queries and keys. */
        self_attn: z.boolean().default(true),
        /** The feed-forward part. */
        mlp: z.boolean().default(true),
        /** The norm before the head. */
        final: z.boolean().default(true),
        /** The norms of the two branches. Default: each goes with its branch. */
        norms: z.boolean().optional(),
      }),
    ])
    .default(true),
  /** The tower that serves each modality, by part; a part that is here does not heed `untied`. */
  towers: z
    .strictObject({
      /** Towers of attention, by modality. */
      self_attn: towerMap.optional(),
      /** Towers of the feed-forward part, by modality. */
      mlp: towerMap.optional(),
      /** Towers of the norm before the head, by modality. */
      final: towerMap.optional(),
      /** Towers of the norms of the branches, by modality. Default: those of each norm's branch. */
      norms: towerMap.optional(),
    })
    .optional(),
  /** `branch_output`: h + Norm(f(h)), the paper's; `pre`: h + f(Norm(h)), Llama's. */
  norm_placement: z.enum(['branch_output', 'pre']).default('branch_output'),
  /** RMSNorm of every query and key head before RoPE. */
  qk_norm: z.boolean().default(true),
  /** Epsilon of every RMSNorm. */
  norm_eps: positive.default(1e-5),
  /** Base of RoPE's frequencies. */
  rope_theta: positive.default(10000),
  /** Weight of the squared log-sum-exp of the logits in the loss. */
  z_loss: z.number().min(0).default(0),
  /** Weight of the loss of each modality predicted. Default: 1. */
  loss_weight: z.record(z.string(), z.number().min(0)).optional(),
  /** Mixture of experts in the MLP of the named towers (`shared` where mlp is tied): their number, or all settings. */
  experts: z.record(z.string(), z.union([expertCount, expertsSchema])).nullish(),
  /** Transfusion: one modality consists of continuous patches, predicted by diffusion. Default: none does. */
  diffusion: diffusionSchema.nullish(),
};

const schema = z.strictObject(modelConfigShape);

/** A model config as one writes it. */
export type ModelConfigInput = z.input<typeof schema>;

/** Experts of one tower with every value filled in. */
export type ExpertsConfig = z.output<typeof expertsSchema>;

/** A model config with every value filled in; parsing it again gives the same. */
export interface ModelConfig {
  vocab: number;
  d_model: number;
  n_layers: number;
  n_heads: number;
  n_kv_heads: number;
  head_dim: number;
  ffn_dim: number;
  modalities: string[];
  /** `norms` only where they do not go with their branches. */
  untied: Record<Part, boolean> & { norms?: boolean };
  towers?: Partial<Record<PartOrNorms, Record<string, string>>>;
  norm_placement: 'branch_output' | 'pre';
  qk_norm: boolean;
  norm_eps: number;
  rope_theta: number;
  z_loss: number;
  loss_weight: Record<string, number>;
  experts?: Record<string, ExpertsConfig>;
  diffusion?: { modality: string; patch_dim: number; steps: number; weight: number; prediction: Prediction };
}

/** Llama's rule: two thirds of 4 d_model, rounded down, then up to a multiple of 256. */
export function defaultFfnDim(dModel: number): number {
  return Math.ceil(Math.floor((8 * dModel) / 3) / 256) * 256;
}

/**
 * Checks a model config and fills in its defaults.
 *
 * @param options.what How messages call it; default `model config`.
 * @param options.where Place of a key in its file, for messages.
 * @throws MotError ERR_CONFIG naming every key that is wrong (an unknown one with the nearest known one).
 * @example
 * parseModelConfig({ vocab: 512, d_model: 64, n_layers: 2, n_heads: 4, modalities: ['text', 'image'] }).head_dim; // 16
 */
export function parseModelConfig(
  value: unknown,
  options: { what?: string; where?: (path: KeyPath) => string } = {},
): ModelConfig {
  const { what = 'model config', where } = options;
  const parsed = parseWith(schema, value, what, where ? { where } : {});
  const fail = (key: keyof ModelConfig, sentence: string): never => {
    throw new MotError('ERR_CONFIG', `${what}: ${where?.([key]) ?? ''}${sentence}.`);
  };
  const { d_model, n_heads, n_kv_heads = n_heads, modalities } = parsed;
  if (parsed.head_dim === undefined && d_model % n_heads !== 0)
    fail('n_heads', `d_model ${d_model} is not a multiple of n_heads ${n_heads}; change one of them, or give head_dim`);
  const head_dim = parsed.head_dim ?? d_model / n_heads;
  if (head_dim % 8 !== 0)
    fail(
      'head_dim',
      `head_dim must be a multiple of 8, got ${head_dim}${parsed.head_dim ? '' : ' (d_model / n_heads)'}`,
    );
  if (n_heads % n_kv_heads !== 0)
    fail('n_kv_heads', `n_heads must be a multiple of n_kv_heads, got ${n_heads} and ${n_kv_heads}`);
  const twice = modalities.find((m, i) => modalities.indexOf(m) !== i);
  if (twice !== undefined) fail('modalities', `modalities names ${JSON.stringify(twice)} twice; names must differ`);
  for (const [part, map] of Object.entries(parsed.towers ?? {}))
    if (map) checkKeys(map, modalities, true, (sentence) => fail('towers', `towers.${part} ${sentence}`));
  checkKeys(parsed.loss_weight ?? {}, modalities, false, (sentence) => fail('loss_weight', `loss_weight ${sentence}`));
  if (parsed.diffusion) {
    const { modality } = parsed.diffusion;
    if (!modalities.includes(modality))
      fail(
        'diffusion',
        `diffusion.modality is ${JSON.stringify(modality)}, which is none of ${modalities.join(', ')}; name the one whose tokens are patches`,
      );
    if (d_model % 2 !== 0) fail('d_model', `d_model must be even where there is diffusion, got ${d_model}`);
  }

  const { untied: tied, towers, loss_weight, experts, diffusion, ffn_dim = defaultFfnDim(d_model), ...rest } = parsed;
  const { norms, ...branches } = typeof tied === 'boolean' ? { self_attn: tied, mlp: tied, final: tied } : { ...tied };
  const untied = { ...branches, ...(norms === undefined ? {} : { norms }) };
  const given = Object.entries(towers ?? {}).filter(([, map]) => map !== undefined);
  const parts = {
    untied,
    ...(given.length > 0 ? { towers: Object.fromEntries(given) as NonNullable<ModelConfig['towers']> } : {}),
  };
  const mlpTowers = nativePart({ modalities, ...parts }, 'mlp').names;
  const filled = parseExperts(experts ?? {}, mlpTowers, (sentence) => fail('experts', sentence));
  return {
    ...rest,
    n_kv_heads,
    head_dim,
    ffn_dim,
    ...parts,
    loss_weight: Object.fromEntries(modalities.map((m) => [m, loss_weight?.[m] ?? 1])),
    ...(Object.keys(filled).length > 0 ? { experts: filled } : {}),
    ...(diffusion ? { diffusion } : {}),
  };
}

function checkKeys(
  map: Record<string, unknown>,
  modalities: readonly string[],
  all: boolean,
  fail: (sentence: string) => never,
): void {
  for (const key of Object.keys(map))
    if (!modalities.includes(key)) fail(`names ${JSON.stringify(key)}, which is none of ${modalities.join(', ')}`);
  for (const m of modalities) if (all && !Object.hasOwn(map, m)) fail(`gives no tower to ${m}`);
}

/** Fills in the defaults of the experts of each tower. */
function parseExperts(
  given: Record<string, number | ExpertsConfig>,
  towers: readonly string[],
  fail: (sentence: string) => never,
): Record<string, ExpertsConfig> {
  return Object.fromEntries(
    Object.entries(given).map(([tower, value]) => {
      if (!towers.includes(tower))
        fail(`experts names the tower ${JSON.stringify(tower)}, which mlp does not have; it has ${towers.join(', ')}`);
      const experts = typeof value === 'number' ? expertsSchema.parse({ count: value }) : value;
      const { count, routing, capacity_factor, top_k } = experts;
      if (top_k > count) fail(`experts.${tower}.top_k must be at most count, ${count}, got ${top_k}`);
      if (capacity_factor > count)
        fail(`experts.${tower}.capacity_factor must be at most count, ${count}, got ${capacity_factor}`);
      if (routing === 'expert_choice' && top_k !== 1)
        fail(`experts.${tower}.top_k is for token_choice; with expert_choice set capacity_factor`);
      if (routing === 'token_choice' && capacity_factor !== 1)
        fail(`experts.${tower}.capacity_factor is for expert_choice; with token_choice set top_k`);
      return [tower, experts];
    }),
  );
}

/** What decides which tower serves a modality. */
type TowerChoice = Pick<ModelConfig, 'modalities' | 'untied' | 'towers'>;

/** Whether the norms of the branches have towers of their own. */
export function hasOwnNorms({ untied, towers }: TowerChoice): boolean {
  return untied.norms !== undefined || towers?.norms !== undefined;
}

/** The tower of each modality in a part, in the order of modalities. `norms`: where `hasOwnNorms`. */
export function towersOf(config: TowerChoice, part: PartOrNorms): string[] {
  const map = config.towers?.[part];
  return config.modalities.map((m) => (map ? map[m]! : config.untied[part] ? m : SHARED));
}

/** One part's towers, as the addon takes them: in the order in which modalities first name them. */
function nativePart(config: TowerChoice, part: PartOrNorms): NativePart {
  const towers = towersOf(config, part);
  const names = [...new Set(towers)];
  return { names, towerOfModality: towers.map((tower) => names.indexOf(tower)) };
}

/** Whether a token's output may depend on later tokens: some tower's experts choose their tokens. */
export function looksAhead(config: ModelConfig): boolean {
  return Object.values(config.experts ?? {}).some(({ routing }) => routing === 'expert_choice');
}

/** The experts of every tower of the MLP, as the addon takes them; count 0: the tower has none. */
function nativeExperts(config: ModelConfig): NativeExperts[] {
  const none = { count: 0, routing: 'token_choice', capacity_factor: 1, top_k: 1, balance_loss: 0 } as const;
  return nativePart(config, 'mlp').names.map((tower) => {
    const { count, routing, capacity_factor, top_k, balance_loss } = config.experts?.[tower] ?? none;
    return { count, routing, capacityFactor: capacity_factor, topK: top_k, balanceLoss: balance_loss };
  });
}

/** The config as the addon takes it. */
export function nativeModelConfig(config: ModelConfig): NativeModelConfig {
  const { diffusion } = config;
  return {
    dModel: config.d_model,
    nLayers: config.n_layers,
    nHeads: config.n_heads,
    nKvHeads: config.n_kv_heads,
    headDim: config.head_dim,
    ffnDim: config.ffn_dim,
    vocab: config.vocab,
    modalities: config.modalities.length,
    normPlacement: config.norm_placement,
    qkNorm: config.qk_norm,
    normEps: config.norm_eps,
    ropeTheta: config.rope_theta,
    zLoss: config.z_loss,
    selfAttn: nativePart(config, 'self_attn'),
    mlp: nativePart(config, 'mlp'),
    final: nativePart(config, 'final'),
    ...(hasOwnNorms(config) ? { norms: nativePart(config, 'norms') } : {}),
    lossWeight: config.modalities.map((m) => config.loss_weight[m]!),
    ...(config.experts ? { experts: nativeExperts(config) } : {}),
    ...(diffusion
      ? {
          diffusion: {
            modality: config.modalities.indexOf(diffusion.modality),
            patchDim: diffusion.patch_dim,
            steps: diffusion.steps,
            weight: diffusion.weight,
            prediction: diffusion.prediction,
          },
        }
      : {}),
  };
}
