#include "addon/arguments.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/thread_team.h"

namespace mot::addon {

namespace {

const char* type_name(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined: return "undefined";
    case napi_null: return "null";
    case napi_boolean: return "a boolean";
    case napi_number: return "a number";
    case napi_string: return "a string";
    case napi_symbol: return "a symbol";
    case napi_function: return "a function";
    case napi_bigint: return "a bigint";
    default: return "an object";
  }
}

[[noreturn]] void fail(const char* name, const char* expected, const Napi::Value& got) {
  throw errorf("ERR_ARGUMENT", "expected %s to be %s, got %s.", name, expected, type_name(got));
}

// Typed arrays by N-API's own test: a test runner's globals fail `instanceof`.
template <class T>
std::vector<T> copy_typed_array(const Napi::Value& value, const char* name, napi_typedarray_type type,
                                const char* expected) {
  if (!value.IsTypedArray()) fail(name, expected, value);
  napi_typedarray_type actual;
  size_t length = 0;
  void* data = nullptr;
  napi_value buffer;
  size_t offset = 0;
  napi_status status = napi_get_typedarray_info(value.Env(), value, &actual, &length, &data, &buffer, &offset);
  if (status != napi_ok || actual != type) fail(name, expected, value);
  std::vector<T> copy(length);
  if (length > 0) std::memcpy(copy.data(), data, length * sizeof(T));
  return copy;
}

Napi::Value get(const Napi::Object& object, const char* key) { return object.Get(key); }

}  // namespace

int64_t to_integer(const Napi::Value& value, const char* name, int64_t low, int64_t high) {
  if (!value.IsNumber()) fail(name, "a whole number", value);
  double x = value.As<Napi::Number>().DoubleValue();
  if (!(x >= static_cast<double>(low) && x <= static_cast<double>(high)) || x != std::floor(x))
    throw errorf("ERR_ARGUMENT", "expected %s to be a whole number from %lld to %lld, got %g.", name,
                 static_cast<long long>(low), static_cast<long long>(high), x);
  return static_cast<int64_t>(x);
}

double to_number(const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) fail(name, "a number", value);
  double x = value.As<Napi::Number>().DoubleValue();
  if (!std::isfinite(x)) throw errorf("ERR_ARGUMENT", "expected %s to be finite, got %g.", name, x);
  return x;
}

bool to_boolean(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) fail(name, "a boolean", value);
  return value.As<Napi::Boolean>().Value();
}

std::string to_string(const Napi::Value& value, const char* name) {
  if (!value.IsString()) fail(name, "a string", value);
  return value.As<Napi::String>().Utf8Value();
}

std::string to_path(const Napi::Value& value, const char* name) {
  std::string path = to_string(value, name);
  if (path.empty() || path.find('\0') != std::string::npos)
    throw errorf("ERR_ARGUMENT", "expected %s to be the path of a file, got %s.", name,
                 path.empty() ? "an empty string" : "a string with a NUL byte");
  return path;
}

Napi::Object to_object(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) fail(name, "an object", value);
  return value.As<Napi::Object>();
}

Napi::Array to_array(const Napi::Value& value, const char* name) {
  if (!value.IsArray()) fail(name, "an array", value);
  return value.As<Napi::Array>();
}

uint64_t to_seed(const Napi::Value& value, const char* name) {
  if (!value.IsBigInt()) fail(name, "a bigint", value);
  bool lossless = false;
  uint64_t seed = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) throw errorf("ERR_ARGUMENT", "expected %s to be from 0 to 2^64 - 1.", name);
  return seed;
}

std::vector<int32_t> to_int32s(const Napi::Value& value, const char* name) {
  return copy_typed_array<int32_t>(value, name, napi_int32_array, "an Int32Array");
}

std::vector<float> to_float32s(const Napi::Value& value, const char* name) {
  return copy_typed_array<float>(value, name, napi_float32_array, "a Float32Array");
}

std::vector<uint8_t> to_bytes(const Napi::Value& value, const char* name) {
  size_t bytes = 0;
  const void* data = nullptr;
  if (value.IsTypedArray()) {
    auto array = value.As<Napi::TypedArray>();
    napi_value buffer;
    size_t length, offset;
    napi_typedarray_type type;
    void* start = nullptr;
    if (napi_get_typedarray_info(value.Env(), value, &type, &length, &start, &buffer, &offset) != napi_ok)
      fail(name, "a typed array", value);
    bytes = length * array.ElementSize();
    data = start;
  } else if (value.IsDataView()) {
    auto view = value.As<Napi::DataView>();
    bytes = view.ByteLength();
    data = view.Data();
  } else {
    fail(name, "a typed array", value);
  }
  std::vector<uint8_t> copy(bytes);
  if (bytes > 0) std::memcpy(copy.data(), data, bytes);
  return copy;
}

std::vector<std::pair<std::string, std::string>> to_string_map(const Napi::Value& value, const char* name) {
  Napi::Object object = to_object(value, name);
  Napi::Array keys = object.GetPropertyNames();
  std::vector<std::pair<std::string, std::string>> map;
  for (uint32_t i = 0; i < keys.Length(); i++) {
    std::string key = keys.Get(i).ToString().Utf8Value();
    std::string where = std::string(name) + "." + key;
    map.emplace_back(key, to_string(object.Get(key), where.c_str()));
  }
  return map;
}

DType to_compute_dtype(const Napi::Value& value, const char* name) {
  std::string dtype = to_string(value, name);
  if (dtype == "f32") return kF32;
  if (dtype == "bf16") return kBF16;
  throw errorf("ERR_ARGUMENT", "expected %s to be \"f32\" or \"bf16\", got \"%s\".", name, dtype.c_str());
}

const OpTable* to_backend(const Napi::Value& value, const char* name) {
  std::string device = to_string(value, name);
  if (device == "reference") return reference_backend();
  if (device != "cpu")
    throw errorf("ERR_UNSUPPORTED", "expected %s to be \"cpu\" or \"reference\", got \"%s\".", name, device.c_str());
  const char* why = "";
  const OpTable* backend = cpu_backend(&why);
  if (!backend) throw errorf("ERR_UNSUPPORTED", "%s", why);
  return backend;
}

int to_threads(const Napi::Value& value, const char* name) {
  auto threads = static_cast<int>(to_integer(value, name, 0, kMaxThreads));
  return threads > 0 ? threads : available_threads();
}

AdamwOptions to_adamw(const Napi::Value& value) {
  Napi::Object o = to_object(value, "adamw");
  AdamwOptions options{};
  options.lr = to_number(get(o, "lr"), "adamw.lr");
  options.beta1 = to_number(get(o, "beta1"), "adamw.beta1");
  options.beta2 = to_number(get(o, "beta2"), "adamw.beta2");
  options.eps = to_number(get(o, "eps"), "adamw.eps");
  options.weight_decay = to_number(get(o, "weightDecay"), "adamw.weightDecay");
  options.clip = to_number(get(o, "clip"), "adamw.clip");
  options.step = to_integer(get(o, "step"), "adamw.step", 1, int64_t{1} << 53);
  if (const Napi::Value decay = o.Get("emaDecay"); !decay.IsUndefined())
    options.ema_decay = to_number(decay, "adamw.emaDecay");
  if (const Napi::Value scales = o.Get("lrScales"); !scales.IsUndefined())
    options.lr_scales = copy_typed_array<double>(scales, "adamw.lrScales", napi_float64_array, "a Float64Array");
  return options;
}

Batch OwnedBatch::view() const {
  auto or_null = [](const std::vector<int32_t>& array) { return array.empty() ? nullptr : array.data(); };
  Batch batch{static_cast<int64_t>(token.size()),
              token.data(),
              modality.data(),
              position.data(),
              kv_start.data(),
              kv_end.data(),
              or_null(target),
              or_null(target_modality)};
  if (has_patches) {
    batch.latent_rows = static_cast<int64_t>(image_of_row.size());
    batch.images = static_cast<int64_t>(timestep.size());
    batch.patch_row = patch_row.data();
    batch.latent = latent.data();
    batch.noise = has_noise ? noise.data() : nullptr;
    batch.image_of_row = image_of_row.data();
    batch.timestep = timestep.data();
  }
  return batch;
}

// The arrays of continuous patches, which come together or not at all.
static void read_patches(const Napi::Object& o, const ModelConfig& config, OwnedBatch& batch) {
  if (get(o, "patchRow").IsUndefined()) {
    for (const char* key : {"latent", "noise", "imageOfRow", "timestep"})
      if (!get(o, key).IsUndefined()) throw errorf("ERR_BATCH", "[batch] expected patchRow together with %s.", key);
    return;
  }
  if (!config.diffusion)
    throw errorf("ERR_BATCH", "[batch] expected no patchRow, because the model's config has no diffusion.");
  batch.has_patches = true;
  batch.patch_row = to_int32s(get(o, "patchRow"), "batch.patchRow");
  batch.image_of_row = to_int32s(get(o, "imageOfRow"), "batch.imageOfRow");
  batch.timestep = to_int32s(get(o, "timestep"), "batch.timestep");
  batch.latent = to_float32s(get(o, "latent"), "batch.latent");
  batch.has_noise = !get(o, "noise").IsUndefined();
  if (batch.has_noise) batch.noise = to_float32s(get(o, "noise"), "batch.noise");
  if (batch.patch_row.size() != batch.token.size())
    throw errorf("ERR_BATCH", "[batch] expected patchRow to have %zu entries, one a token, got %zu.",
                 batch.token.size(), batch.patch_row.size());
  auto check_size = [&](const char* key, size_t size) {
    const size_t rows = batch.image_of_row.size(), width = static_cast<size_t>(config.diffusion->patch_dim);
    if (size != rows * width)
      throw errorf("ERR_BATCH",
                   "[batch] expected %s to have %zu x %zu numbers, for each row of imageOfRow a patch as wide as the "
                   "config's patch_dim, got %zu.",
                   key, rows, width, size);
  };
  check_size("latent", batch.latent.size());
  if (batch.has_noise) check_size("noise", batch.noise.size());
}

WeightKind to_weight_kind(const Napi::Value& value) {
  const std::string kind = to_string(value, "weights");
  if (kind == "raw") return WeightKind::kRaw;
  if (kind == "ema") return WeightKind::kEma;
  throw errorf("ERR_ARGUMENT", "expected weights to be \"raw\" or \"ema\", got \"%s\".", kind.c_str());
}

Output to_output(const Napi::Value& value) {
  std::string output = to_string(value, "output");
  if (output == "hidden") return Output::kHidden;
  if (output == "logits") return Output::kLogits;
  if (output == "patches") return Output::kPatches;
  throw errorf("ERR_ARGUMENT", "expected output to be \"hidden\", \"logits\" or \"patches\", got \"%s\".",
               output.c_str());
}

OwnedBatch to_batch(const Napi::Value& value, Slots slots, const ModelConfig& config) {
  Napi::Object o = to_object(value, "batch");
  OwnedBatch batch;
  auto read = [&](const char* key, std::vector<int32_t>& array, bool required) {
    Napi::Value given = get(o, key);
    if (!required && given.IsUndefined()) return;
    std::string name = std::string("batch.") + key;
    array = to_int32s(given, name.c_str());
    if (array.size() != batch.token.size())
      throw errorf("ERR_BATCH", "[batch] expected %s to have %zu entries, one a token, got %zu.", key,
                   batch.token.size(), array.size());
  };
  batch.token = to_int32s(get(o, "token"), "batch.token");
  read("modality", batch.modality, true);
  read("position", batch.position, true);
  read("kvStart", batch.kv_start, true);
  read("kvEnd", batch.kv_end, true);
  read("target", batch.target, false);
  read("targetModality", batch.target_modality, !batch.target.empty());
  if (slots == Slots::kRequired) read("slot", batch.slot, true);
  read_patches(o, config, batch);
  return batch;
}

std::vector<TensorKind> to_kinds(const Napi::Value& value) {
  Napi::Array list = to_array(value, "kinds");
  std::vector<TensorKind> kinds;
  for (uint32_t i = 0; i < list.Length(); i++) {
    TensorKind kind = tensor_kind(to_string(list.Get(i), "kinds"));
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
  }
  return kinds;
}

}  // namespace mot::addon
