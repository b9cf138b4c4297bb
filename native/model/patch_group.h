// The continuous patches of a batch, made ready for the kernels: checked, in the order of their rows of the residual
// stream, noise mixed in.
#pragma once
#include <cstdint>
#include <vector>

#include "model/batch.h"
#include "model/config.h"

namespace mot {

struct PatchGroup {
  int64_t begin = 0, count = 0;  // R neighbouring rows of the sorted order, from `begin`
  int64_t images = 0;            // I
  int64_t predicted_images = 0;  // those with a patch, where there is noise to predict; else 0
  std::vector<float> input;      // [R, P] as noisy as the model sees them
  std::vector<float> target;   // [R, P] noise or velocity, whichever is predicted; empty: no noise, nothing to predict
  std::vector<int32_t> image;  // [R] 0 <= image < I
  std::vector<int32_t> patches;   // [I] patches of each image
  std::vector<float> time;        // [I, D] sinusoids of its timestep
  std::vector<int32_t> ordinals;  // [R] 0, 1, 2, ...: to look up rows as they come
  std::vector<int32_t> zeros;     // [max(R, I)]: to add up all rows
};

// Whether token t of the batch is a patch.
inline bool is_patch(const Batch& batch, int64_t t) { return batch.patch_row && batch.patch_row[t] >= 0; }

// Throws Error("ERR_BATCH") naming array, index, value and bound, and Error("ERR_LIMIT") for too many images. Returns
// the number of patches.
int64_t check_patches(const ModelConfig& config, const Limits& limits, const Batch& batch);

// row [T]: sorted row of each token; the patches' are those from `begin` on, in sequence order.
PatchGroup make_patch_group(const ModelConfig& config, const Batch& batch, const std::vector<int32_t>& row,
                            int64_t begin, int64_t count);

// Signal level left at each timestep of the cosine schedule (Nichol & Dhariwal 2021, arXiv:2102.09672): the product of
// 1 - beta up to it, betas capped at 0.999. [steps]
std::vector<double> cosine_alpha_bar(int64_t steps);

// The value of an array of a batch is out of bounds (inclusive): throws Error("ERR_BATCH").
void check_value(const char* array, int64_t index, int64_t value, int64_t low, int64_t high);

}  // namespace mot
