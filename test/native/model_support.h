// What the model tests share: batches, small models, golden files, backends and errors.
#pragma once
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "model/model.h"

namespace mot::test {

// A batch that owns its arrays.
struct OwnedBatch {
  std::vector<int32_t> token, modality, position, kv_start, kv_end, target, target_modality;

  // Of patches: empty where there are none.
  std::vector<int32_t> patch_row = {}, image_of_row = {}, timestep = {};
  std::vector<float> latent = {}, noise = {};

  int64_t tokens() const { return static_cast<int64_t>(token.size()); }
  Batch view() const;
  void append(const OwnedBatch& other);  // as further documents
  // Makes tokens [first, first + count) of one document an image of random patches, noisy as at timestep `level`, that
  // see each other; nothing is predicted before and inside of it but its noise.
  void add_image(const ModelConfig& config, int32_t first, int32_t count, int32_t level, uint64_t seed);
};

// Every modality its own tower in every part unless `untied` says otherwise.
struct Untied {
  bool self_attn = true, mlp = true, final = true;
};
ModelConfig make_config(int64_t modalities, const Untied& untied = {});

// Packed documents of the given lengths with runs of random modalities and causal intervals; the last token of a
// document has no target.
OwnedBatch random_batch(const ModelConfig& config, const std::vector<int64_t>& lengths, uint64_t seed);

// Normal weights of std 1/sqrt(fan in) and norms around 1, as in the golden files: no gradient is tiny.
void fill_random_weights(Model& model, uint64_t seed);

// "reference", and every instruction set of the CPU backend that this machine has: "cpu/avx2", ...
std::vector<std::string> backend_names();
const OpTable* backend(const std::string& name);

// One file of test/golden.
struct Golden {
  explicit Golden(const std::string& name);

  SafetensorsFile file;
  ModelConfig config;
  double lr;
  OwnedBatch batch;

  // Values of an f32 tensor, which must exist.
  std::vector<float> tensor(const std::string& name) const;
  void load_weights(Model& model) const;
};
std::vector<std::string> golden_names();

// |x - y|_2 / |y|_2; for y = 0: 0 when x = 0 exactly, else infinity. NaN stays NaN.
double relative_error(const float* x, const float* y, int64_t count);
double relative_error(const std::vector<float>& x, const std::vector<float>& y);
double relative_error(double x, double y);

// 0, 1, ..., count - 1.
std::vector<int32_t> all_positions(int64_t count);

inline const AbortFlag kNoAbort{false};

// Name for a test parameter: letters, digits and underscores.
std::string identifier(std::string name);

}  // namespace mot::test
