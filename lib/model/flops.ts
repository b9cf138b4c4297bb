import type { Checkpointing } from '../config/checkpointing.js';
import type { ModelConfig } from '../config/model_config.js';

/** Floating-point operations of one token, a multiply-add counted as 2; norms, activations and lookups left out. */
export interface TokenFlops {
  forward: number;
  /** Gradients of inputs and of weights: twice forward. */
  backward: number;
  /** What checkpointing computes again. */
  again: Record<Checkpointing, number>;
}

/** Weights of matrices that one token meets: of its own towers, and of the head. Embeddings are looked up. */
export function activeMatrixWeights(config: ModelConfig): number {
  const { d_model, n_layers, n_heads, n_kv_heads, head_dim, ffn_dim, vocab } = config;
  const attention = d_model * head_dim * (2 * n_heads + 2 * n_kv_heads);
  return n_layers * (attention + 3 * d_model * ffn_dim) + d_model * vocab;
}

/**
 * FLOPs of a token in training: 2 for every weight of the matrix products that it meets (its own towers' only; the
 * embedding is a lookup) and, for attention, 4 for every head channel and key that it sees. So a step takes 6 N + 12 L C
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
  const gateUp = 4 * D * F;
  const down = 2 * D * F;
  const forward = 2 * activeMatrixWeights(config) + layers * attention;
  // Norms that come last need the branch itself again, before its norm; others stop at the last projection.
  const last = config.norm_placement === 'branch_output' ? 1 : 0;
  const againAttention = layers * (qkv + attention + last * output);
  return {
    forward,
    backward: 2 * forward,
    again: { none: 0, attention: againAttention, block: againAttention + layers * (gateUp + last * down) },
  };
}
