// A model's tensors by name: in memory, and in safetensors files.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "model/model.h"

namespace mot::addon {

enum class TensorKind { kWeight, kGradient, kM, kV };

// "weight", "gradient", "m", "v"; Error("ERR_ARGUMENT") for another.
TensorKind tensor_kind(const std::string& name);
// Flat array of a kind. Error("ERR_ARGUMENT") where the model was created without training.
float* tensor_data(Model& model, TensorKind kind);
// Error("ERR_NOT_FINITE") naming the tensor and the first element that is NaN or infinite.
void check_finite(const std::string& name, const float* values, int64_t count);

// Weights by their names, other kinds with "gradient.", "m.", "v." before them, all F32. Returns the file's checksum.
std::string save_tensors(Model& model, const std::string& path, const std::vector<TensorKind>& kinds,
                         const std::vector<std::pair<std::string, std::string>>& metadata);
// Reads them back, F32 or BF16. Every tensor must be there, of its shape and finite: checked before any is replaced.
void load_tensors(Model& model, const std::string& path, const std::vector<TensorKind>& kinds);

}  // namespace mot::addon
