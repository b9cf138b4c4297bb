// Reads JavaScript values. Whatever is not as expected is an Error("ERR_ARGUMENT") that names it; arrays are copied.
#pragma once
#include <napi.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "addon/session_core.h"
#include "addon/tensor_files.h"
#include "model/model.h"

namespace mot::addon {

int64_t to_integer(const Napi::Value& value, const char* name, int64_t low, int64_t high);
double to_number(const Napi::Value& value, const char* name);
bool to_boolean(const Napi::Value& value, const char* name);
std::string to_string(const Napi::Value& value, const char* name);
// A string without NUL bytes, which would end it early for the system.
std::string to_path(const Napi::Value& value, const char* name);
Napi::Object to_object(const Napi::Value& value, const char* name);
Napi::Array to_array(const Napi::Value& value, const char* name);
uint64_t to_seed(const Napi::Value& value, const char* name);
std::vector<int32_t> to_int32s(const Napi::Value& value, const char* name);
std::vector<float> to_float32s(const Napi::Value& value, const char* name);
// The bytes of any typed array or DataView.
std::vector<uint8_t> to_bytes(const Napi::Value& value, const char* name);
std::vector<std::pair<std::string, std::string>> to_string_map(const Napi::Value& value, const char* name);

// f32 or bf16.
DType to_compute_dtype(const Napi::Value& value, const char* name);
// Error("ERR_UNSUPPORTED") for a backend that this machine does not run.
const OpTable* to_backend(const Napi::Value& value, const char* name);
// 0 becomes all that this process may use.
int to_threads(const Napi::Value& value, const char* name);

ModelConfig to_config(const Napi::Value& value);
SessionOptions to_session_options(const Napi::Value& value);
AdamwOptions to_adamw(const Napi::Value& value);

// A batch in memory of its own.
struct OwnedBatch {
  std::vector<int32_t> token, modality, position, kv_start, kv_end, target, target_modality, slot;
  std::vector<int32_t> patch_row, image_of_row, timestep;  // has_patches: all given, though maybe empty
  std::vector<float> latent, noise;
  bool has_patches = false, has_noise = false;

  Batch view() const;
};
enum class Slots { kNone, kRequired };
// Checks that all arrays have one length; their values are checked when the batch is prepared.
OwnedBatch to_batch(const Napi::Value& value, Slots slots, const ModelConfig& config);
Output to_output(const Napi::Value& value);
// Each once, in the order given.
std::vector<TensorKind> to_kinds(const Napi::Value& value);
WeightKind to_weight_kind(const Napi::Value& value);

}  // namespace mot::addon
