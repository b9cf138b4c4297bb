// Every buffer of a model: the list from which the memory plan is made.
#pragma once
#include <vector>

#include "model/plan.h"
#include "model/weights.h"

namespace mot {

// N rows (padding included), T tokens, S keys, R routed rows; D, H, K, E, F, V as in ops/types.h. "operand": the
// compute dtype. Training keeps the layer's buffers from forward to backward, except those that Limits::checkpointing
// has computed again: of them, and without training of all, there is one that every layer uses.
struct LayerBuffers {
  struct Attention {
    BufferId h = kNoBuffer;          // [N, D] f32: residual stream before
    BufferId x = kNoBuffer;          // [N, D] operand: input of the projections (h rounded, or normalised: norms first)
    BufferId qkv = kNoBuffer;        // [N, (H+2K)E] operand
    BufferId lse = kNoBuffer;        // [H, T] f32
    BufferId out = kNoBuffer;        // [N, H*E] operand
    BufferId branch = kNoBuffer;     // [N, D] operand: o projection, before its norm; only where norms come last
    BufferId norm_rstd = kNoBuffer;  // [N] f32
  } attention;
  struct Mlp {
    BufferId h = kNoBuffer;          // [N, D] f32
    BufferId x = kNoBuffer;          // [N, D] operand
    BufferId gate_up = kNoBuffer;    // [N, 2F] operand; with experts [R, 2F]
    BufferId out = kNoBuffer;        // [N, F] operand; with experts [R, F]
    BufferId branch = kNoBuffer;     // [N, D] operand
    BufferId norm_rstd = kNoBuffer;  // [N] f32
  } mlp;
  // With experts only. C: the most experts of a tower.
  struct Routing {
    BufferId probs = kNoBuffer;      // [N, C] f32
    BufferId row = kNoBuffer;        // [R] i32: sorted row of each routed row
    BufferId gate = kNoBuffer;       // [R] f32
    BufferId place = kNoBuffer;      // [N, C] i32: routed row of each sorted row at each expert
    BufferId segments = kNoBuffer;   // [weight sets, 3] i32: routed rows of each set
    BufferId d_balance = kNoBuffer;  // [towers, C] f32: of the load-balance loss, by the probabilities of any row
  } routing;
};

struct Buffers {
  Buffers(const ModelConfig& config, const Limits& limits, DType operand, int64_t row_alignment, int64_t flat_count,
          int64_t workspace_bytes);

  MemoryPlan plan;
  BufferId weights, gradients = kNoBuffer, m = kNoBuffer, v = kNoBuffer, ema = kNoBuffer;  // [flat_count] f32
  BufferId cache_k = kNoBuffer, cache_v = kNoBuffer;  // [layers, slots, K*E] operand
  BufferId rope;                                      // [positions, E] f32
  BufferId workspace;                                 // [bytes]

  std::vector<LayerBuffers> layers;
  BufferId q, k, v_rows;  // [T, H*E], [T, K*E] operand; recomputed from qkv for backward
  // I images, R patches, P numbers of a patch; only with diffusion.
  struct Diffusion {
    BufferId time_hidden = kNoBuffer;    // [I, D] f32: time embedding before its activation
    BufferId time_silu = kNoBuffer;      // [I, D] operand
    BufferId time = kNoBuffer;           // [I, D] f32
    BufferId bias = kNoBuffer;           // [1, D] f32: of time embedding and patches together
    BufferId patches = kNoBuffer;        // [R, D] f32: embedded
    BufferId prediction = kNoBuffer;     // [R, P] f32: of noise or velocity; then its gradient
    BufferId error = kNoBuffer;          // [R] f32
    BufferId row_scale = kNoBuffer;      // [R] f32
    BufferId d_time = kNoBuffer;         // [I, D] f32
    BufferId d_time_hidden = kNoBuffer;  // [I, D] f32
  } diffusion;
  BufferId h;                    // [N, D] f32: residual stream after the last layer
  BufferId hidden, hidden_rstd;  // [N, D] operand, [N] f32: final norm
  BufferId ce, lse, row_scale;   // [N] f32
  BufferId chosen;               // [T, D] operand: hidden rows of chosen positions

  // With experts only.
  BufferId routed_x =
      kNoBuffer;  // [R, D] operand: rows of x at their experts; in backward also the gradient of routed_y
  BufferId routed_y = kNoBuffer;  // [R, D] f32: what the experts make of them; in backward the gradient of routed_x
  BufferId logits = kNoBuffer;    // [N, C] f32: of a router; in backward their gradient
  BufferId balance = kNoBuffer;   // [layers, towers] f64: load-balance losses; token choice only

  // Gradients; kNoBuffer unless limits.training.
  BufferId d_h = kNoBuffer;                                    // [N, D] f32: of the residual stream
  BufferId d_chosen = kNoBuffer;                               // [T, D] f32
  BufferId d_branch = kNoBuffer;                               // [N, D] operand; norms last
  BufferId d_x = kNoBuffer;                                    // [N, D] f32; norms first
  BufferId d_mlp = kNoBuffer;                                  // [N, F] operand; with experts [R, F]
  BufferId d_gate = kNoBuffer;                                 // [R] f32; with experts
  BufferId d_attention = kNoBuffer;                            // [N, H*E] operand
  BufferId d_q = kNoBuffer, d_k = kNoBuffer, d_v = kNoBuffer;  // [T, H*E], [T, K*E] operand
  BufferId d_qkv = kNoBuffer;                                  // [N, (H+2K)E] operand
};

// Most rows that a batch of limits.tokens can have once each modality's group is padded.
int64_t max_rows(const ModelConfig& config, const Limits& limits, int64_t row_alignment);

}  // namespace mot
