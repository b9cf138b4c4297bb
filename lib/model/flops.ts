import type { Checkpointing } from '../config/checkpointing.js';
import { towersOf, type ModelConfig } from '../config/model_config.js';

/** Floating-point operations of one token, a multiply-add counted as 2; norms, activations and lookups left out. */
export interface TokenFlops {
  forward: number;
  /** Gradients of inputs and of weights: twice forward. */
  backward: number;
  /** What checkpointing computes again. */
  again: Record<Checkpointing, number>;
  /** With diffusion, forward: what a patch takes besides, and the time embedding of an image. Backward is twice as much. */
  diffusion?: { patch: number; image: number };
}

/**
 * Weight sets of the MLP that a token goes through, and experts that its router scores: means over the modalities, which
 * count alike. Without experts 1 and 0.
 */
function mlpSets(config: ModelConfig): { sets: number; scored: number } {
  const { modalities, experts = {} } = config;
  let sets = 0;
  let scored = 0;
  for (const tower of towersOf(config, 'mlp')) {
    const of = experts[tower];
    sets += !of ? 1 : of.routing === 'token_choice' ? of.top_k : of.capacity_factor;
    scored += of?.count ?? 0;
  }
  return { sets: sets / modalities.length, scored: scored / modalities.length };
}

/**
 * Weights of matrices that one token meets: of its own towers, of the experts that it goes to, and of the head.
 * Embeddings are looked up.
 */
export function activeMatrixWeights(config: ModelConfig): number {
  const { d_model, n_layers, n_heads, n_kv_heads, head_dim, ffn_dim, vocab } = config;
  const attention = d_model * head_dim * (2 * n_heads + 2 * n_kv_heads);
  const { sets, scored } = mlpSets(config);
  return n_layers * (attention + sets * 3 * d_model * ffn_dim + scored * d_model) + d_model * vocab;
}

/**
 * FLOPs of a token in training: 2 for every weight of the matrix products that it meets (its own towers' and experts' only;
 * the embedding is a lookup) and, for attention, 4 for every head channel and key that it sees. So a step takes 6 N + 12 L C
 * a token, N such weights, L keys seen times layers, C = heads x head width (Kaplan et al. 2020, arXiv:2001.08361,
 * section 2.1, and attention's share beside it).
 *
 * @param keys Keys that a token sees in the mean; (length + 1) / 2 in a causal document.
 */
export function flopsPerToken(config: ModelConfig, keys: number): TokenFlops {
  const { d_model: D, n_layers: layers, n_heads: H, n_kv_heads: K, head_dim: E, ffn_dim: F } = config;
  const channels = H * E;
  const qkv = 2 * D * (H + 2 * K) * E;
  const attention = 4 * channels * keys;
  const output = 2 * channels * D;
  const { sets, scored } = mlpSets(config);
  const gateUp = sets * 4 * D * F + 2 * D * scored;
  const down = sets * 2 * D * F;
  const forward = 2 * activeMatrixWeights(config) + layers * attention;
  // Norms that come last need the branch itself again, before its norm; others stop at the last projection.
  const last = config.norm_placement === 'branch_output' ? 1 : 0;
  const againAttention = layers * (qkv + attention + last * output);
  return {
    forward,
    backward: 2 * forward,
    again: { none: 0, attention: againAttention, block: againAttention + layers * (gateUp + last * down) },
    ...(config.diffusion ? { diffusion: { patch: 4 * D * config.diffusion.patch_dim, image: 4 * D * D } } : {}),
  };
}
