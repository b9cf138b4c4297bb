#include "model/layer.h"

#include <cmath>

#include "model/branch.h"

namespace mot {
namespace {

Branch attention_branch(const Pass& p, int64_t layer) {
  const LayerBuffers& own = p.engine.buffers.layers[layer];
  const auto& b = own.attention;
  return {p.self_attn,       p.engine.weights.layers[layer].attention_norm,
          p.rows(b.h),       p.rows(b.x),
          p.rows(b.branch),  p.engine.floats(b.norm_rstd),
          p.rows(own.mlp.h), p.rows(own.mlp.x)};
}

Branch mlp_branch(const Pass& p, int64_t layer) {
  const Buffers& buffers = p.engine.buffers;
  const auto& b = buffers.layers[layer].mlp;
  const bool last = layer + 1 == p.engine.config.n_layers;
  const LayerBuffers::Attention* next = last ? nullptr : &buffers.layers[layer + 1].attention;
  return {p.mlp,
          p.engine.weights.layers[layer].ffn_norm,
          p.rows(b.h),
          p.rows(b.x),
          p.rows(b.branch),
          p.engine.floats(b.norm_rstd),
          p.rows(last ? buffers.h : next->h),
          p.rows(last ? kNoBuffer : next->x)};
}

// q, k and v in sequence order from the projection in sorted order. Backward calls it again rather than keep them.
void split_qkv(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  const LayerWeights& w = e.weights.layers[layer];
  e.run(&OpTable::qk_norm_rope_forward, QkNormRopeForward{.qkv = p.rows(e.buffers.layers[layer].attention.qkv),
                                                          .q_norm = w.q_norm.value,
                                                          .k_norm = w.k_norm.value,
                                                          .q_row = p.groups.seq_row.data(),
                                                          .kv_row = p.groups.kv_row.data(),
                                                          .position = p.groups.position.data(),
                                                          .rope_table = e.floats(e.buffers.rope),
                                                          .rope_positions = e.limits.positions,
                                                          .heads = e.config.n_heads,
                                                          .kv_heads = e.config.n_kv_heads,
                                                          .head_dim = e.config.head_dim,
                                                          .q = p.tokens(e.buffers.q),
                                                          .k = p.keys(layer),
                                                          .v = p.values(layer),
                                                          .segments = p.self_attn,
                                                          .eps = e.config.norm_eps});
}

double attention_scale(const ModelConfig& c) { return 1.0 / std::sqrt(static_cast<double>(c.head_dim)); }

void attention_forward(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  const LayerWeights& w = e.weights.layers[layer];
  const LayerBuffers::Attention& b = e.buffers.layers[layer].attention;
  const Branch branch = attention_branch(p, layer);

  branch_input(p, branch);
  project(p, branch.x, w.qkv, p.rows(b.qkv), p.self_attn);
  split_qkv(p, layer);
  e.run(&OpTable::attention_forward, AttentionForward{.q = p.tokens(e.buffers.q),
                                                      .k = p.keys(layer),
                                                      .v = p.values(layer),
                                                      .kv_start = p.groups.kv_start.data(),
                                                      .kv_end = p.groups.kv_end.data(),
                                                      .out_row = p.groups.row.data(),
                                                      .heads = e.config.n_heads,
                                                      .kv_heads = e.config.n_kv_heads,
                                                      .head_dim = e.config.head_dim,
                                                      .scale = attention_scale(e.config),
                                                      .out = p.rows(b.out),
                                                      .lse = e.floats(b.lse)});
  branch_output(p, branch, p.rows(b.out), w.o);
}

// With experts, the router's groups would take the place of the modality's segments here.
void mlp_forward(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  const LayerWeights& w = e.weights.layers[layer];
  const LayerBuffers::Mlp& b = e.buffers.layers[layer].mlp;
  const Branch branch = mlp_branch(p, layer);

  branch_input(p, branch);
  project(p, branch.x, w.gate_up, p.rows(b.gate_up), p.mlp);
  e.run(&OpTable::swiglu_forward, SwigluForward{.gate_up = p.rows(b.gate_up), .out = p.rows(b.out)});
  branch_output(p, branch, p.rows(b.out), w.down);
}

void mlp_backward(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  const LayerWeights& w = e.weights.layers[layer];
  const LayerBuffers::Mlp& b = e.buffers.layers[layer].mlp;
  const Branch branch = mlp_branch(p, layer);
  const Matrix gate_up = p.rows(b.gate_up), d_out = p.rows(e.buffers.d_mlp);

  branch_output_backward(p, branch, p.rows(b.out), w.down, d_out);
  e.run(&OpTable::swiglu_backward, SwigluBackward{.gate_up = gate_up, .d_out = d_out, .d_gate_up = gate_up});
  branch_input_backward(p, branch, w.gate_up, gate_up);
}

void attention_backward(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  const LayerWeights& w = e.weights.layers[layer];
  const LayerBuffers::Attention& b = e.buffers.layers[layer].attention;
  const Branch branch = attention_branch(p, layer);
  const Matrix d_out = p.rows(e.buffers.d_attention), d_qkv = p.rows(e.buffers.d_qkv);
  const Matrix d_q = p.tokens(e.buffers.d_q), d_k = p.tokens(e.buffers.d_k), d_v = p.tokens(e.buffers.d_v);

  branch_output_backward(p, branch, p.rows(b.out), w.o, d_out);
  split_qkv(p, layer);
  e.run(&OpTable::attention_backward, AttentionBackward{.q = p.tokens(e.buffers.q),
                                                        .k = p.keys(layer),
                                                        .v = p.values(layer),
                                                        .kv_start = p.groups.kv_start.data(),
                                                        .kv_end = p.groups.kv_end.data(),
                                                        .out_row = p.groups.row.data(),
                                                        .heads = e.config.n_heads,
                                                        .kv_heads = e.config.n_kv_heads,
                                                        .head_dim = e.config.head_dim,
                                                        .scale = attention_scale(e.config),
                                                        .out = p.rows(b.out),
                                                        .lse = e.floats(b.lse),
                                                        .d_out = d_out,
                                                        .d_q = d_q,
                                                        .d_k = d_k,
                                                        .d_v = d_v});
  e.run(&OpTable::qk_norm_rope_backward, QkNormRopeBackward{.qkv = p.rows(b.qkv),
                                                            .q_norm = w.q_norm.value,
                                                            .k_norm = w.k_norm.value,
                                                            .q_row = p.groups.seq_row.data(),
                                                            .kv_row = p.groups.kv_row.data(),
                                                            .position = p.groups.position.data(),
                                                            .rope_table = e.floats(e.buffers.rope),
                                                            .rope_positions = e.limits.positions,
                                                            .heads = e.config.n_heads,
                                                            .kv_heads = e.config.n_kv_heads,
                                                            .head_dim = e.config.head_dim,
                                                            .d_q = d_q,
                                                            .d_k = d_k,
                                                            .d_v = d_v,
                                                            .d_qkv = d_qkv,
                                                            .d_q_norm = w.q_norm.gradient,
                                                            .d_k_norm = w.k_norm.gradient,
                                                            .segments = p.self_attn,
                                                            .eps = e.config.norm_eps});
  branch_input_backward(p, branch, w.qkv, d_qkv);
}

}  // namespace

void layer_forward(const Pass& pass, int64_t layer) {
  pass.check_abort();
  attention_forward(pass, layer);
  pass.check_abort();
  mlp_forward(pass, layer);
}

void layer_backward(const Pass& pass, int64_t layer) {
  pass.check_abort();
  mlp_backward(pass, layer);
  pass.check_abort();
  attention_backward(pass, layer);
}

}  // namespace mot
