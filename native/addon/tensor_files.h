// A model's tensors by name: in memory, and in safetensors files.
#pragma once
#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "core/arena.h"
#include "model/model.h"

namespace mot::addon {

enum class TensorKind { kWeight, kGradient, kM, kV, kEma };

// "weight", "gradient", "m", "v", "ema"; Error("ERR_ARGUMENT") for another.
TensorKind tensor_kind(const std::string& name);
// Flat array of a kind. Error("ERR_ARGUMENT") where the model was created without training, or without ema.
float* tensor_data(Model& model, TensorKind kind);
// Error("ERR_NOT_FINITE") naming the tensor and the first element that is NaN or infinite.
void check_finite(const std::string& name, const float* values, int64_t count);

// Weights and their average by the weights' names (so a file cannot hold both: Error("ERR_ARGUMENT")), other kinds with
// "gradient.", "m.", "v." before them, all F32. Returns the file's checksum.
// `stop` as write_safetensors has it.
std::string save_tensors(Model& model, const std::string& path, const std::vector<TensorKind>& kinds,
                         const std::vector<std::pair<std::string, std::string>>& metadata,
                         const std::atomic<bool>& stop);

// Tensors as they were at one moment: their flat arrays, copied.
class TensorCopy {
 public:
  // On so many threads. Throws Error("ERR_MEMORY").
  TensorCopy(Model& model, const std::vector<TensorKind>& kinds, int threads);
  int64_t bytes() const { return arena_.bytes(); }
  // As save_tensors, any thread; Error("ERR_ARGUMENT") for a kind that was not copied.
  std::string save(const std::string& path, const std::vector<TensorKind>& kinds,
                   const std::vector<std::pair<std::string, std::string>>& metadata,
                   const std::atomic<bool>& stop) const;

 private:
  std::vector<WeightInfo> weights_;
  std::vector<TensorKind> kinds_;
  int64_t flat_count_;
  Arena arena_;
};

// Reads them back, F32 or BF16. Every tensor must be there, of its shape and finite: checked before any is replaced.
void load_tensors(Model& model, const std::string& path, const std::vector<TensorKind>& kinds);

}  // namespace mot::addon
