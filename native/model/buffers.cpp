#include "model/buffers.h"

namespace mot {

int64_t max_rows(const ModelConfig& config, const Limits& limits, int64_t row_alignment) {
  return limits.tokens + config.modalities * (row_alignment - 1);
}

Buffers::Buffers(const ModelConfig& c, const Limits& limits, DType operand, int64_t row_alignment, int64_t flat_count,
                 int64_t workspace_bytes) {
  const int64_t N = max_rows(c, limits, row_alignment), T = limits.tokens;
  const int64_t D = c.d_model, F = c.ffn_dim, HE = c.attn_dim(), KE = c.n_kv_heads * c.head_dim, QKV = c.qkv_dim();
  const bool pre = c.norm_placement == NormPlacement::kPre;
  const bool experts = c.has_experts();
  const int64_t R = max_routed_rows(c, limits, row_alignment), C = c.max_experts(), towers = c.mlp.names.size();
  const int64_t mlp_rows = experts ? R : N;

  weights = plan.add("weights", "weights", kF32, {flat_count}, kAlways);
  if (limits.training) {
    gradients = plan.add("gradients", "gradients", kF32, {flat_count}, kAlways);
    m = plan.add("m", "optimizer", kF32, {flat_count}, kAlways);
    v = plan.add("v", "optimizer", kF32, {flat_count}, kAlways);
    if (limits.ema) ema = plan.add("ema", "averaged weights", kF32, {flat_count}, kAlways);
  }
  rope = plan.add("rope", "tables", kF32, {limits.positions, c.head_dim}, kAlways);
  if (limits.kv_slots > 0) {
    // Always alive: training and evaluation between two decode calls leave the cache as it is.
    cache_k = plan.add("cache.k", "cache", operand, {c.n_layers, limits.kv_slots, KE}, kAlways);
    cache_v = plan.add("cache.v", "cache", operand, {c.n_layers, limits.kv_slots, KE}, kAlways);
  }
  workspace = plan.add("workspace", "workspace", kU8, {workspace_bytes}, kAlways);

  auto activation = [&](std::string name, DType dtype, std::vector<int64_t> shape, uint32_t phases) {
    return plan.add(std::move(name), "activations", dtype, std::move(shape), phases);
  };
  // What backward reads lives throughout a training step.
  auto saved = [&](std::string name, DType dtype, std::vector<int64_t> shape, uint32_t phases) {
    return activation(std::move(name), dtype, std::move(shape), limits.training ? uint32_t{kAlways} : phases);
  };
  // Norms that come last read the branch, so the residual stream is one buffer, added to in place. Norms that come
  // first read the residual stream itself, whose every state is then kept.
  h = activation("h", kF32, {N, D}, kForward | kHead);
  auto residual_stream = [&](const std::string& name) {
    return pre && limits.training ? saved(name, kF32, {N, D}, kForward) : h;
  };

  const bool again_attention = limits.training && limits.checkpointing != Checkpointing::kNone;
  const bool again_mlp = limits.training && limits.checkpointing == Checkpointing::kBlock;
  // What a branch computes again for backward: all layers use the buffers of the first.
  auto inner = [&](bool again, const std::string& name, DType dtype, std::vector<int64_t> shape, uint32_t forward,
                   uint32_t backward, BufferId first) {
    if (!again) return saved(name, dtype, std::move(shape), forward);
    return first != kNoBuffer ? first : activation(name, dtype, std::move(shape), forward | backward);
  };
  const int64_t kept_layers = limits.training ? c.n_layers : 1;
  layers.resize(c.n_layers);
  for (int64_t i = 0; i < c.n_layers; i++) {
    LayerBuffers& layer = layers[i];
    if (i >= kept_layers) {
      layer = layers[0];
      continue;
    }
    const std::string prefix = limits.training ? "layers." + std::to_string(i) + "." : "layers.";
    const std::string attention = prefix + "attention.", mlp = prefix + "mlp.";
    const LayerBuffers first = i > 0 ? layers[0] : LayerBuffers{};
    auto of_attention = [&](const char* name, DType dtype, std::vector<int64_t> shape, BufferId same) {
      return inner(again_attention, (again_attention ? "layers.attention." : attention) + name, dtype, std::move(shape),
                   kForwardAttention, kBackwardAttention, same);
    };
    auto of_mlp = [&](const char* name, DType dtype, std::vector<int64_t> shape, BufferId same) {
      return inner(again_mlp, (again_mlp ? "layers.mlp." : mlp) + name, dtype, std::move(shape), kForwardMlp,
                   kBackwardMlp, same);
    };
    layer.attention = {
        .h = residual_stream(attention + "h"),
        // Norms that come last leave x with the branch before; the others make it, and make it again.
        .x = pre ? of_attention("x", operand, {N, D}, first.attention.x)
                 : saved(attention + "x", operand, {N, D}, kForward),
        .qkv = of_attention("qkv", operand, {N, QKV}, first.attention.qkv),
        .lse = limits.training ? of_attention("lse", kF32, {c.n_heads, T}, first.attention.lse) : kNoBuffer,
        .out = of_attention("out", operand, {N, HE}, first.attention.out),
        .branch = pre ? kNoBuffer : of_attention("branch", operand, {N, D}, first.attention.branch),
        .norm_rstd = saved(attention + "norm_rstd", kF32, {N}, kForwardAttention),
    };
    layer.mlp = {
        .h = residual_stream(mlp + "h"),
        .x = pre ? of_mlp("x", operand, {N, D}, first.mlp.x) : saved(mlp + "x", operand, {N, D}, kForward),
        .gate_up = of_mlp("gate_up", operand, {mlp_rows, 2 * F}, first.mlp.gate_up),
        .out = of_mlp("out", operand, {mlp_rows, F}, first.mlp.out),
        .branch = pre ? kNoBuffer : of_mlp("branch", operand, {N, D}, first.mlp.branch),
        .norm_rstd = saved(mlp + "norm_rstd", kF32, {N}, kForwardMlp),
    };
    if (!experts) continue;
    layer.routing = {
        .probs = of_mlp("probs", kF32, {N, C}, first.routing.probs),
        .row = of_mlp("routed_row", kI32, {R}, first.routing.row),
        .gate = of_mlp("gate", kF32, {R}, first.routing.gate),
        .place = of_mlp("place", kI32, {N, C}, first.routing.place),
        .segments = of_mlp("segments", kI32, {c.mlp_sets(), 3}, first.routing.segments),
    };
    if (c.has_balance_loss()) layer.routing.d_balance = of_mlp("d_balance", kF32, {towers, C}, first.routing.d_balance);
  }
  q = activation("q", operand, {T, HE}, kForwardAttention | kBackwardAttention);
  k = activation("k", operand, {T, KE}, kForwardAttention | kBackwardAttention);
  v_rows = activation("v", operand, {T, KE}, kForwardAttention | kBackwardAttention);
  if (experts) {
    routed_x = activation("routed_x", operand, {R, D}, kForwardMlp | kBackwardMlp);
    routed_y = activation("routed_y", kF32, {R, D}, kForwardMlp | kBackwardMlp);
    logits = activation("router_logits", kF32, {N, C}, kForwardMlp | kBackwardMlp);
    // Read when all layers have run.
    if (c.has_balance_loss()) balance = activation("balance", kF64, {c.n_layers, towers}, kAlways);
  }
  hidden = activation("hidden", operand, {N, D}, kHead);
  hidden_rstd = activation("hidden_rstd", kF32, {N}, kHead);
  ce = activation("ce", kF32, {N}, kLoss);
  lse = activation("lse", kF32, {N}, kLoss);
  row_scale = activation("row_scale", kF32, {N}, kLoss);
  chosen = activation("chosen", operand, {T, D}, kChosen);
  if (c.diffusion) {
    const int64_t I = limits.max_images(), P = c.diffusion->patch_dim;
    diffusion.time_hidden = saved("time.hidden", kF32, {I, D}, kForwardAttention);
    diffusion.time_silu = saved("time.silu", operand, {I, D}, kForwardAttention);
    diffusion.time = activation("time", kF32, {I, D}, kForwardAttention);
    diffusion.bias = activation("patches.bias", kF32, {1, D}, kForwardAttention);
    diffusion.patches = activation("patches", kF32, {T, D}, kForwardAttention);
    diffusion.prediction = activation("prediction", kF32, {T, P}, kLoss);
    diffusion.error = activation("prediction.error", kF32, {T}, kLoss);
    diffusion.row_scale = activation("prediction.row_scale", kF32, {T}, kLoss);
    if (limits.training) {
      const char* group = "gradients of activations";
      diffusion.d_time = plan.add("d_time", group, kF32, {I, D}, kBackwardAttention);
      diffusion.d_time_hidden = plan.add("d_time.hidden", group, kF32, {I, D}, kBackwardAttention);
    }
  }
  if (limits.training) {
    auto gradient = [&](const char* name, DType dtype, std::vector<int64_t> shape, uint32_t phases) {
      return plan.add(name, "gradients of activations", dtype, std::move(shape), phases);
    };
    d_h = gradient("d_h", kF32, {N, D}, kHead | kBackward);
    d_chosen = gradient("d_chosen", kF32, {T, D}, kChosen);
    if (pre)
      d_x = gradient("d_x", kF32, {N, D}, kBackward);
    else
      d_branch = gradient("d_branch", operand, {N, D}, kBackward);
    d_mlp = gradient("d_mlp", operand, {mlp_rows, F}, kBackwardMlp);
    if (experts) d_gate = gradient("d_gate", kF32, {R}, kBackwardMlp);
    d_attention = gradient("d_attention", operand, {N, HE}, kBackwardAttention);
    d_q = gradient("d_q", operand, {T, HE}, kBackwardAttention);
    d_k = gradient("d_k", operand, {T, KE}, kBackwardAttention);
    d_v = gradient("d_v", operand, {T, KE}, kBackwardAttention);
    d_qkv = gradient("d_qkv", operand, {N, QKV}, kBackwardAttention);
  }
  plan.lay_out();
}

}  // namespace mot
