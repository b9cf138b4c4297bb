#include "model/patch_group.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace mot {
namespace {

void check_finite(const char* array, const float* values, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (!std::isfinite(values[i]))
      throw errorf("ERR_BATCH", "[batch] expected %s[%lld] to be finite, got %g", array, static_cast<long long>(i),
                   static_cast<double>(values[i]));
}

// Sinusoids of a timestep: width/2 cosines, then as many sines, of timestep * 10000^(-i / (width/2)).
void timestep_embedding(int64_t timestep, int64_t width, float* out) {
  const int64_t half = width / 2;
  for (int64_t i = 0; i < half; i++) {
    const double frequency = std::exp(-std::log(10000.0) * static_cast<double>(i) / static_cast<double>(half));
    const double angle = static_cast<double>(timestep) * frequency;
    out[i] = static_cast<float>(std::cos(angle));
    out[half + i] = static_cast<float>(std::sin(angle));
  }
}

}  // namespace

void check_value(const char* array, int64_t index, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high)
    throw errorf("ERR_BATCH", "[batch] expected %s[%lld] from %lld to %lld, got %lld", array,
                 static_cast<long long>(index), static_cast<long long>(low), static_cast<long long>(high),
                 static_cast<long long>(value));
}

int64_t check_patches(const ModelConfig& config, const Limits& limits, const Batch& batch) {
  if (!batch.patch_row) return 0;
  if (!config.diffusion)
    throw errorf("ERR_BATCH", "[batch] expected no patch_row, because the model's config has no diffusion");
  if (!batch.image_of_row || !batch.timestep || !batch.latent)
    throw errorf("ERR_BATCH", "[batch] expected latent, image_of_row and timestep together with patch_row");
  if (batch.images > limits.max_images())
    throw errorf("ERR_LIMIT", "[batch] expected at most %lld images, which the model was created for, got %lld",
                 static_cast<long long>(limits.max_images()), static_cast<long long>(batch.images));
  const Diffusion& diffusion = *config.diffusion;
  for (int64_t i = 0; i < batch.images; i++) check_value("timestep", i, batch.timestep[i], 0, diffusion.steps - 1);
  for (int64_t r = 0; r < batch.latent_rows; r++)
    check_value("image_of_row", r, batch.image_of_row[r], 0, batch.images - 1);
  check_finite("latent", batch.latent, batch.latent_rows * diffusion.patch_dim);
  if (batch.noise) check_finite("noise", batch.noise, batch.latent_rows * diffusion.patch_dim);

  int64_t patches = 0;
  std::vector<bool> taken(static_cast<size_t>(batch.latent_rows));
  for (int64_t t = 0; t < batch.tokens; t++) {
    check_value("patch_row", t, batch.patch_row[t], -1, batch.latent_rows - 1);
    if (!is_patch(batch, t)) continue;
    patches++;
    const auto row = static_cast<size_t>(batch.patch_row[t]);
    if (taken[row])
      throw errorf("ERR_BATCH", "[batch] expected a row of latent to be used once, got patch_row[%lld] = %d again",
                   static_cast<long long>(t), batch.patch_row[t]);
    taken[row] = true;
    if (batch.modality[t] != diffusion.modality)
      throw errorf("ERR_BATCH", "[batch] expected modality[%lld] to be %lld, the diffusion's, for a patch, got %d",
                   static_cast<long long>(t), static_cast<long long>(diffusion.modality), batch.modality[t]);
  }
  return patches;
}

PatchGroup make_patch_group(const ModelConfig& config, const Batch& batch, const std::vector<int32_t>& row,
                            int64_t begin, int64_t count) {
  PatchGroup group;
  group.begin = begin;
  group.count = count;
  group.images = batch.images;
  if (!batch.patch_row) return group;
  const int64_t P = config.diffusion->patch_dim, D = config.d_model;
  const bool velocity = config.diffusion->prediction == Prediction::kVelocity;
  const std::vector<double> alpha_bar = cosine_alpha_bar(batch.noise ? config.diffusion->steps : 0);
  group.input.resize(count * P);
  group.target.resize(batch.noise ? count * P : 0);
  group.image.resize(count);
  group.patches.resize(group.images);
  for (int64_t t = 0; t < batch.tokens; t++) {
    if (!is_patch(batch, t)) continue;
    const int64_t r = row[t] - begin, from = batch.patch_row[t];
    const int32_t image = batch.image_of_row[from];
    group.image[r] = image;
    group.patches[image]++;
    const float* latent = batch.latent + from * P;
    float* input = group.input.data() + r * P;
    if (!batch.noise) {
      std::copy(latent, latent + P, input);
      continue;
    }
    const float* noise = batch.noise + from * P;
    float* target = group.target.data() + r * P;
    const double level = alpha_bar[batch.timestep[image]], keep = std::sqrt(level), add = std::sqrt(1 - level);
    for (int64_t i = 0; i < P; i++) {
      input[i] = static_cast<float>(keep * latent[i] + add * noise[i]);
      target[i] = velocity ? static_cast<float>(keep * noise[i] - add * latent[i]) : noise[i];
    }
  }
  if (batch.noise)
    group.predicted_images =
        std::count_if(group.patches.begin(), group.patches.end(), [](int32_t patches) { return patches > 0; });
  group.time.resize(group.images * D);
  for (int64_t i = 0; i < group.images; i++) timestep_embedding(batch.timestep[i], D, group.time.data() + i * D);
  group.ordinals.resize(count);
  std::iota(group.ordinals.begin(), group.ordinals.end(), 0);
  group.zeros.assign(std::max(count, group.images), 0);
  return group;
}

std::vector<double> cosine_alpha_bar(int64_t steps) {
  constexpr double kOffset = 0.008, kHalfPi = 1.5707963267948966;
  auto level = [&](int64_t t) {
    const double u = static_cast<double>(t) / static_cast<double>(steps);
    return std::pow(std::cos((u + kOffset) / (1 + kOffset) * kHalfPi), 2);
  };
  std::vector<double> alpha_bar(steps);
  double product = 1;
  for (int64_t t = 0; t < steps; t++) {
    product *= 1 - std::min(1 - level(t + 1) / level(t), 0.999);
    alpha_bar[t] = product;
  }
  return alpha_bar;
}

}  // namespace mot
