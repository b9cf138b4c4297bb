#include "model/head.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "model/branch.h"
#include "model/layer.h"
#include "model/patches.h"

namespace mot {

void forward_layers(const Pass& p) {
  const Engine& e = p.engine;
  const LayerBuffers::Attention& first = e.buffers.layers.front().attention;
  e.run(&OpTable::embedding_forward, EmbeddingForward{.table = only_matrix(p.weights.embed_tokens.value),
                                                      .token = p.groups.token.data(),
                                                      .out = p.rows(first.h),
                                                      .out_copy = p.rows(e.norms_first() ? kNoBuffer : first.x)});
  if (e.config.diffusion) embed_patches(p);
  for (int64_t layer = 0; layer < e.config.n_layers; layer++) layer_forward(p, layer);
  p.check_abort();
}

void backward_layers(const Pass& p) {
  const Engine& e = p.engine;
  const Matrix d_h = p.rows(e.buffers.d_h);
  p.check_abort();
  e.run(&OpTable::rms_norm_backward, RmsNormBackward{.x = p.rows(e.buffers.h),
                                                     .weight = p.weights.final_norm.value,
                                                     .rstd = e.floats(e.buffers.hidden_rstd),
                                                     .d_out = d_h,
                                                     .d_x = d_h,
                                                     .accumulate_d_x = 0,
                                                     .d_weight = p.weights.final_norm.gradient,
                                                     .segments = p.final});
  const int64_t lowest = p.lowest_trained_layer();
  for (int64_t layer = e.config.n_layers - 1; layer >= std::max<int64_t>(lowest, 0); layer--) layer_backward(p, layer);
  p.check_abort();
  if (lowest >= 0) return;
  e.run(&OpTable::embedding_backward,
        EmbeddingBackward{
            .token = p.groups.token.data(), .d_out = d_h, .d_table = only_matrix(p.weights.embed_tokens.gradient)});
  if (e.config.diffusion) embed_patches_backward(p);
  p.check_abort();
}

void final_norm(const Pass& p) {
  const Engine& e = p.engine;
  e.run(&OpTable::rms_norm_forward, RmsNormForward{.x = p.rows(e.buffers.h),
                                                   .weight = p.weights.final_norm.value,
                                                   .residual = {},
                                                   .out = p.rows(e.buffers.hidden),
                                                   .out_copy = {},
                                                   .rstd = e.floats(e.buffers.hidden_rstd),
                                                   .segments = p.final,
                                                   .eps = e.config.norm_eps});
}

Losses head_losses(const Pass& p, const Totals& totals, bool with_gradient) {
  const Engine& e = p.engine;
  const TokenGroups& g = p.groups;
  const std::vector<double>& loss_weight = e.config.loss_weight;
  Losses losses;
  losses.ce_sum.assign(loss_weight.size(), 0.0);
  losses.target_count = g.target_count;
  int64_t total_targets = totals.targets;
  if (total_targets <= 0) {
    total_targets = 0;
    for (int64_t count : g.target_count) total_targets += count;
  }
  const double total = static_cast<double>(std::max<int64_t>(total_targets, 1));  // no targets, zero loss

  float* row_scale = e.floats(e.buffers.row_scale);
  for (int64_t n = 0; n < g.rows; n++) {
    const int32_t modality = g.target_modality[n];
    row_scale[n] = modality < 0 ? 0.0f : static_cast<float>(loss_weight[modality] / total);
  }
  const float* ce = e.floats(e.buffers.ce);
  const float* lse = e.floats(e.buffers.lse);
  const bool with_d_weight = with_gradient && p.trains(p.weights.lm_head, 0);
  e.run(&OpTable::linear_cross_entropy,
        LinearCrossEntropy{.x = p.rows(e.buffers.hidden),
                           .weight = only_matrix(p.weights.lm_head.value),
                           .target = g.target.data(),
                           .row_scale = row_scale,
                           .z_loss = e.config.z_loss,
                           .ce = e.floats(e.buffers.ce),
                           .lse = e.floats(e.buffers.lse),
                           .d_x = with_gradient ? p.rows(e.buffers.d_h) : Matrix{},
                           .d_weight = with_d_weight ? only_matrix(p.weights.lm_head.gradient) : Matrix{},
                           .compute = e.compute});

  for (int64_t n = 0; n < g.rows; n++) {
    const int32_t modality = g.target_modality[n];
    if (modality < 0) continue;
    const double cross_entropy = ce[n], z = static_cast<double>(lse[n]) * lse[n];
    losses.ce_sum[modality] += cross_entropy;
    losses.z_loss += z / total;
    losses.loss += loss_weight[modality] * (cross_entropy + e.config.z_loss * z) / total;
  }
  for (double sum : losses.ce_sum) losses.lm_loss += sum / total;
  if (e.config.diffusion) patch_losses(p, totals.images, with_gradient, losses);
  return losses;
}

Matrix choose_positions(const Pass& p, const int32_t* positions, int64_t count) {
  const Engine& e = p.engine;
  if (count > e.limits.tokens)
    throw errorf("ERR_LIMIT", "[model] expected at most %lld positions, got %lld",
                 static_cast<long long>(e.limits.tokens), static_cast<long long>(count));
  for (int64_t i = 0; i < count; i++)
    if (positions[i] < 0 || positions[i] >= p.groups.tokens)
      throw errorf("ERR_ARGUMENT", "[model] expected positions[%lld] from 0 to %lld, got %d", static_cast<long long>(i),
                   static_cast<long long>(p.groups.tokens - 1), positions[i]);
  const Matrix hidden = p.rows(e.buffers.hidden), chosen = e.matrix(e.buffers.chosen, count);
  const size_t row_bytes = static_cast<size_t>(hidden.cols) * dtype_size(hidden.dtype);
  for (int64_t i = 0; i < count; i++) {
    const auto row = static_cast<size_t>(p.groups.row[positions[i]]);
    std::memcpy(static_cast<uint8_t*>(chosen.data) + static_cast<size_t>(i) * row_bytes,
                static_cast<const uint8_t*>(hidden.data) + row * row_bytes, row_bytes);
  }
  return chosen;
}

void head_logits(const Pass& p, const Matrix& chosen, float* logits) {
  const int64_t V = p.engine.config.vocab;
  const WholeSegment segment(chosen.rows);
  project(p, chosen, p.weights.lm_head, Matrix{logits, kF32, chosen.rows, V, V}, segment);
}

Matrix head_logits_backward(const Pass& p, const Matrix& chosen, const float* d_logits) {
  const Engine& e = p.engine;
  const int64_t V = e.config.vocab;
  const WholeSegment segment(chosen.rows);
  // Read only: Matrix has no const.
  const Matrix d_y{const_cast<float*>(d_logits), kF32, chosen.rows, V, V};
  const Matrix d_chosen = e.matrix(e.buffers.d_chosen, chosen.rows);
  project_backward(p, d_y, chosen, p.weights.lm_head, d_chosen, false, segment);
  return d_chosen;
}

void spread_gradient(const Pass& p, const int32_t* positions, int64_t count, const float* d_chosen) {
  const Matrix d_h = p.rows(p.engine.buffers.d_h);
  float* out = static_cast<float*>(d_h.data);
  std::fill(out, out + d_h.rows * d_h.cols, 0.0f);
  for (int64_t i = 0; i < count; i++) {
    float* row = out + p.groups.row[positions[i]] * d_h.cols;
    for (int64_t d = 0; d < d_h.cols; d++) row[d] += d_chosen[i * d_h.cols + d];
  }
}

}  // namespace mot
