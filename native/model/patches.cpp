#include "model/patches.h"

#include <algorithm>
#include <functional>

#include "core/error.h"
#include "model/branch.h"

namespace mot {
namespace {

// The patches' rows of a buffer [N, ...].
Matrix patch_rows(const Pass& p, BufferId id) {
  Matrix m = p.rows(id);
  if (!m.data) return m;
  m.data =
      static_cast<uint8_t*>(m.data) + p.groups.patches.begin * m.stride * static_cast<int64_t>(dtype_size(m.dtype));
  m.rows = p.groups.patches.count;
  return m;
}

// An array of the batch, [rows, cols]. Read only: Matrix has no const.
Matrix input_matrix(const std::vector<float>& values, int64_t rows, int64_t cols) {
  return {const_cast<float*>(values.data()), kF32, rows, cols, cols};
}

// One row, for all rows of a product.
Matrix as_bias(Matrix row) {
  row.stride = 0;
  return row;
}

// y = x W^T + residual, one tower.
void linear(const Pass& p, const Matrix& x, const Weight& weight, const Matrix& residual, const Matrix& y) {
  const WholeSegment segment(x.rows);
  p.engine.run(&OpTable::grouped_gemm_forward, GroupedGemmForward{.x = x,
                                                                  .weight = weight.value,
                                                                  .residual = residual,
                                                                  .y = y,
                                                                  .segments = segment,
                                                                  .compute = p.engine.compute});
}

void linear_d_weight(const Pass& p, const Matrix& d_y, const Matrix& x, const Weight& weight) {
  project_d_weight(p, d_y, x, weight, WholeSegment(x.rows), p.engine.compute);
}

void linear_d_x(const Pass& p, const Matrix& d_y, const Weight& weight, const Matrix& d_x, bool accumulate) {
  const WholeSegment segment(d_y.rows);
  p.engine.run(&OpTable::grouped_gemm_d_x, GroupedGemmDx{.d_y = d_y,
                                                         .weight = weight.value,
                                                         .d_x = d_x,
                                                         .accumulate = accumulate ? 1 : 0,
                                                         .segments = segment,
                                                         .compute = p.engine.compute});
}

// The sum of all rows, as a table of one row would gather it.
void add_bias_gradient(const Pass& p, const Matrix& d_y, const Weight& bias) {
  p.engine.run(
      &OpTable::embedding_backward,
      EmbeddingBackward{.token = p.groups.patches.zeros.data(), .d_out = d_y, .d_table = only_matrix(bias.gradient)});
}

}  // namespace

void embed_patches(const Pass& p) {
  const Engine& e = p.engine;
  const ModelWeights& w = p.weights;
  const Buffers::Diffusion& b = e.buffers.diffusion;
  const PatchGroup& g = p.groups.patches;
  const LayerBuffers::Attention& first = e.buffers.layers.front().attention;

  const Matrix time_hidden = e.matrix(b.time_hidden, g.images), time_silu = e.matrix(b.time_silu, g.images);
  linear(p, input_matrix(g.time, g.images, e.config.d_model), w.time_in.weight,
         as_bias(only_matrix(w.time_in.bias.value)), time_hidden);
  e.run(&OpTable::silu_forward, SiluForward{.x = time_hidden, .out = time_silu});

  // Every patch gets both biases, so both come with the time embedding.
  const Matrix bias = e.matrix(b.bias, 1), time = e.matrix(b.time, g.images), patches = e.matrix(b.patches, g.count);
  const float* time_bias = static_cast<const float*>(w.time_out.bias.value.data[0]);
  const float* patch_bias = static_cast<const float*>(w.patch_in.bias.value.data[0]);
  std::transform(time_bias, time_bias + bias.cols, patch_bias, static_cast<float*>(bias.data), std::plus<float>());
  linear(p, time_silu, w.time_out.weight, as_bias(bias), time);

  // The embedding op looks up rows of any table.
  e.run(&OpTable::embedding_forward,
        EmbeddingForward{.table = time, .token = g.image.data(), .out = patches, .out_copy = {}});
  linear(p, input_matrix(g.input, g.count, e.config.diffusion->patch_dim), w.patch_in.weight, patches, patches);
  e.run(&OpTable::embedding_forward, EmbeddingForward{.table = patches,
                                                      .token = g.ordinals.data(),
                                                      .out = patch_rows(p, first.h),
                                                      .out_copy = e.norms_first() ? Matrix{} : patch_rows(p, first.x)});
}

void embed_patches_backward(const Pass& p) {
  const Engine& e = p.engine;
  const ModelWeights& w = p.weights;
  const Buffers::Diffusion& b = e.buffers.diffusion;
  const PatchGroup& g = p.groups.patches;
  const int64_t D = e.config.d_model;

  const Matrix d_patches = patch_rows(p, e.buffers.d_h), d_time = e.matrix(b.d_time, g.images);
  linear_d_weight(p, d_patches, input_matrix(g.input, g.count, e.config.diffusion->patch_dim), w.patch_in.weight);
  std::fill_n(static_cast<float*>(d_time.data), g.images * D, 0.0f);
  e.run(&OpTable::embedding_backward,
        EmbeddingBackward{.token = g.image.data(), .d_out = d_patches, .d_table = d_time});
  add_bias_gradient(p, d_time, w.patch_in.bias);
  add_bias_gradient(p, d_time, w.time_out.bias);

  const Matrix time_silu = e.matrix(b.time_silu, g.images), d_hidden = e.matrix(b.d_time_hidden, g.images);
  linear_d_weight(p, d_time, time_silu, w.time_out.weight);
  linear_d_x(p, d_time, w.time_out.weight, d_hidden, false);
  e.run(&OpTable::silu_backward,
        SiluBackward{.x = e.matrix(b.time_hidden, g.images), .d_out = d_hidden, .d_x = d_hidden});
  linear_d_weight(p, d_hidden, input_matrix(g.time, g.images, D), w.time_in.weight);
  add_bias_gradient(p, d_hidden, w.time_in.bias);
}

void patch_losses(const Pass& p, int64_t total_images, bool with_gradient, Losses& losses) {
  const Engine& e = p.engine;
  const Linear& head = p.weights.patch_out;
  const Buffers::Diffusion& b = e.buffers.diffusion;
  const PatchGroup& g = p.groups.patches;
  if (g.target.empty()) return;
  losses.image_count = g.predicted_images;
  const double total = static_cast<double>(total_images > 0 ? total_images : g.predicted_images);
  const double weight = e.config.diffusion->weight;

  const Matrix hidden = patch_rows(p, e.buffers.hidden), prediction = e.matrix(b.prediction, g.count);
  linear(p, hidden, head.weight, as_bias(only_matrix(head.bias.value)), prediction);
  float *row_scale = e.floats(b.row_scale), *error = e.floats(b.error);
  for (int64_t r = 0; r < g.count; r++) row_scale[r] = static_cast<float>(weight / (total * g.patches[g.image[r]]));
  e.run(&OpTable::squared_error, SquaredError{.x = prediction,
                                              .target = input_matrix(g.target, g.count, prediction.cols),
                                              .row_scale = row_scale,
                                              .error = error,
                                              .d_x = with_gradient ? prediction : Matrix{}});
  for (int64_t r = 0; r < g.count; r++) losses.diffusion_sum += static_cast<double>(error[r]) / g.patches[g.image[r]];
  losses.loss += weight * losses.diffusion_sum / total;
  if (!with_gradient) return;

  add_bias_gradient(p, prediction, head.bias);
  linear_d_weight(p, prediction, hidden, head.weight);
  linear_d_x(p, prediction, head.weight, patch_rows(p, e.buffers.d_h), true);
}

void check_patch_positions(const Pass& p, const int32_t* positions, int64_t count) {
  output_width(p.engine.config, Output::kPatches);
  const PatchGroup& g = p.groups.patches;
  for (int64_t i = 0; i < count; i++) {
    const bool inside = positions[i] >= 0 && positions[i] < p.groups.tokens;
    const int64_t patch = inside ? p.groups.row[positions[i]] - g.begin : -1;
    if (patch < 0 || patch >= g.count)
      throw errorf("ERR_ARGUMENT", "[model] expected positions[%lld] to be that of a patch, got %d",
                   static_cast<long long>(i), positions[i]);
  }
}

void predict_noise(const Pass& p, const Matrix& chosen, float* noise) {
  const Linear& head = p.weights.patch_out;
  const int64_t P = p.engine.config.diffusion->patch_dim;
  linear(p, chosen, head.weight, as_bias(only_matrix(head.bias.value)), Matrix{noise, kF32, chosen.rows, P, P});
}

Matrix predict_noise_backward(const Pass& p, const Matrix& chosen, const float* d_noise) {
  const Linear& head = p.weights.patch_out;
  const int64_t P = p.engine.config.diffusion->patch_dim;
  const Matrix d_y{const_cast<float*>(d_noise), kF32, chosen.rows, P, P};  // read only
  const Matrix d_chosen = p.engine.matrix(p.engine.buffers.d_chosen, chosen.rows);
  add_bias_gradient(p, d_y, head.bias);
  linear_d_weight(p, d_y, chosen, head.weight);
  linear_d_x(p, d_y, head.weight, d_chosen, false);
  return d_chosen;
}

}  // namespace mot
