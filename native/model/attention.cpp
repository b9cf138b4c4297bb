#include "model/attention.h"

#include <cmath>

namespace mot {
namespace {

// q, k and v in sequence order from the projection in sorted order. Backward calls it again rather than keep them.
void split_qkv(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  const LayerWeights& w = p.weights.layers[layer];
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

}  // namespace

void attend(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  const LayerBuffers::Attention& b = e.buffers.layers[layer].attention;
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
}

void attend_backward(const Pass& p, int64_t layer) {
  const Engine& e = p.engine;
  const LayerWeights& w = p.weights.layers[layer];
  const LayerBuffers::Attention& b = e.buffers.layers[layer].attention;
  const Matrix d_q = p.tokens(e.buffers.d_q), d_k = p.tokens(e.buffers.d_k), d_v = p.tokens(e.buffers.d_v);
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
                                                        .d_out = p.rows(e.buffers.d_attention),
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
                                                            .d_qkv = p.rows(e.buffers.d_qkv),
                                                            .d_q_norm = w.q_norm.gradient,
                                                            .d_k_norm = w.k_norm.gradient,
                                                            .segments = p.self_attn,
                                                            .eps = e.config.norm_eps});
}

}  // namespace mot
