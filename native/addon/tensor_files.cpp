#include "addon/tensor_files.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/thread_team.h"
#include "io/safetensors.h"

namespace mot::addon {

namespace {

std::string prefix(TensorKind kind) {
  switch (kind) {
    case TensorKind::kWeight:
    case TensorKind::kEma: return "";
    case TensorKind::kGradient: return "gradient.";
    case TensorKind::kM: return "m.";
    case TensorKind::kV: return "v.";
  }
  return "";
}

std::string show(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); i++) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

// Reads a tensor in pieces of f32: each(first element, values, count).
template <class F>
void read_pieces(const SafetensorsFile& file, const TensorInfo& tensor, int64_t count, F&& each) {
  constexpr int64_t kPiece = int64_t{1} << 18;
  const bool bf16 = tensor.dtype == "BF16";
  const int64_t size = bf16 ? 2 : 4;
  std::vector<float> values(static_cast<size_t>(std::min(count, kPiece)));
  std::vector<uint16_t> halves(bf16 ? values.size() : 0);
  for (int64_t first = 0; first < count; first += kPiece) {
    const int64_t n = std::min(kPiece, count - first);
    void* target = bf16 ? static_cast<void*>(halves.data()) : values.data();
    file.read(tensor, first * size, (first + n) * size, target);
    if (bf16) std::transform(halves.begin(), halves.begin() + n, values.begin(), f32_from_bf16);
    each(first, values.data(), n);
  }
}

void add_tensors(std::vector<TensorToWrite>& tensors, const std::vector<WeightInfo>& weights, TensorKind kind,
                 const float* data) {
  for (const WeightInfo& weight : weights)
    tensors.push_back({prefix(kind) + weight.name, "F32", weight.shape, data + weight.offset,
                       weight.count * static_cast<int64_t>(sizeof(float))});
}

const TensorInfo& require(const SafetensorsFile& file, const std::string& path, const std::string& name,
                          const std::vector<int64_t>& shape) {
  const TensorInfo* tensor = file.find(name);
  if (!tensor)
    throw Error("ERR_FILE_FORMAT", path + " has no tensor " + name + "; it was saved from a model of another config.");
  if (tensor->shape != shape)
    throw Error("ERR_FILE_FORMAT", path + ": " + name + " has shape " + show(tensor->shape) + ", this model needs " +
                                       show(shape) + "; use the config that the file was saved with.");
  if (tensor->dtype != "F32" && tensor->dtype != "BF16")
    throw Error("ERR_FILE_FORMAT", path + ": " + name + " is " + tensor->dtype + "; F32 or BF16 is needed.");
  return *tensor;
}

void check_one_file(const std::vector<TensorKind>& kinds) {
  auto has = [&](TensorKind kind) { return std::find(kinds.begin(), kinds.end(), kind) != kinds.end(); };
  if (has(TensorKind::kWeight) && has(TensorKind::kEma))
    throw errorf("ERR_ARGUMENT", "weight and ema have the same names; write a file of each.");
}

}  // namespace

TensorKind tensor_kind(const std::string& name) {
  if (name == "weight") return TensorKind::kWeight;
  if (name == "gradient") return TensorKind::kGradient;
  if (name == "m") return TensorKind::kM;
  if (name == "v") return TensorKind::kV;
  if (name == "ema") return TensorKind::kEma;
  throw errorf("ERR_ARGUMENT", "expected the kind of a tensor to be weight, gradient, m, v or ema, got \"%s\".",
               name.c_str());
}

float* tensor_data(Model& model, TensorKind kind) {
  float* data = kind == TensorKind::kWeight     ? model.weight_data()
                : kind == TensorKind::kGradient ? model.gradient_data()
                : kind == TensorKind::kM        ? model.m_data()
                : kind == TensorKind::kV        ? model.v_data()
                                                : model.ema_data();
  if (!data && kind == TensorKind::kEma)
    throw errorf("ERR_ARGUMENT", "the model has no averaged weights: it was created without ema: true.");
  if (!data)
    throw errorf("ERR_ARGUMENT",
                 "the model has no gradients and no optimiser state: it was created with training: false.");
  return data;
}

void check_finite(const std::string& name, const float* values, int64_t count) {
  const float* bad = std::find_if_not(values, values + count, [](float x) { return std::isfinite(x); });
  if (bad != values + count)
    throw Error("ERR_NOT_FINITE", "element " + std::to_string(bad - values) + " of " + name + " is " +
                                      (std::isnan(*bad) ? "NaN" : "infinite") + "; weights must be finite numbers.");
}

std::string save_tensors(Model& model, const std::string& path, const std::vector<TensorKind>& kinds,
                         const std::vector<std::pair<std::string, std::string>>& metadata,
                         const std::atomic<bool>& stop) {
  check_one_file(kinds);
  std::vector<TensorToWrite> tensors;
  for (TensorKind kind : kinds) add_tensors(tensors, model.weights().all(), kind, tensor_data(model, kind));
  return write_safetensors(path, tensors, metadata, &stop);
}

TensorCopy::TensorCopy(Model& model, const std::vector<TensorKind>& kinds, int threads)
    : weights_(model.weights().all()), kinds_(kinds), flat_count_(model.weights().flat_count()) {
  constexpr int64_t kPiece = int64_t{1} << 20;  // elements
  const int64_t array_bytes = flat_count_ * static_cast<int64_t>(sizeof(float));
  std::vector<const float*> sources;
  for (TensorKind kind : kinds) sources.push_back(tensor_data(model, kind));
  const auto count = static_cast<int64_t>(kinds.size());
  try {
    arena_ = Arena(count * array_bytes);
  } catch (const Error&) {
    throw errorf("ERR_MEMORY", "a copy of the model's tensors needs %.2f GiB, which the system refused.",
                 static_cast<double>(count * array_bytes) / (1ull << 30));
  }
  auto* target = reinterpret_cast<float*>(arena_.data());
  const int64_t pieces = (flat_count_ + kPiece - 1) / kPiece;
  // On all threads: most of the time goes into the first touch of the copy's pages.
  parallel_for(threads, count * pieces, [&](int64_t task, int) {
    const int64_t array = task / pieces, first = task % pieces * kPiece;
    const float* source = sources[static_cast<size_t>(array)] + first;
    std::copy(source, source + std::min(kPiece, flat_count_ - first), target + array * flat_count_ + first);
  });
}

std::string TensorCopy::save(const std::string& path, const std::vector<TensorKind>& kinds,
                             const std::vector<std::pair<std::string, std::string>>& metadata,
                             const std::atomic<bool>& stop) const {
  check_one_file(kinds);
  std::vector<TensorToWrite> tensors;
  for (TensorKind kind : kinds) {
    const auto at = std::find(kinds_.begin(), kinds_.end(), kind) - kinds_.begin();
    if (at == static_cast<int64_t>(kinds_.size()))
      throw errorf("ERR_ARGUMENT", "the snapshot was taken without tensors of this kind; name it when taking one.");
    add_tensors(tensors, weights_, kind, reinterpret_cast<const float*>(arena_.data()) + at * flat_count_);
  }
  return write_safetensors(path, tensors, metadata, &stop);
}

void load_tensors(Model& model, const std::string& path, const std::vector<TensorKind>& kinds) {
  SafetensorsFile file(path);
  for (TensorKind kind : kinds) {
    tensor_data(model, kind);
    for (const WeightInfo& weight : model.weights().all()) {
      const std::string name = prefix(kind) + weight.name;
      const TensorInfo& tensor = require(file, path, name, weight.shape);
      read_pieces(file, tensor, weight.count,
                  [&](int64_t, const float* values, int64_t n) { check_finite(name + " in " + path, values, n); });
    }
  }
  for (TensorKind kind : kinds) {
    float* data = tensor_data(model, kind);
    for (const WeightInfo& weight : model.weights().all())
      read_pieces(file, *file.find(prefix(kind) + weight.name), weight.count,
                  [&](int64_t first, const float* values, int64_t n) {
                    std::copy(values, values + n, data + weight.offset + first);
                  });
  }
}

}  // namespace mot::addon
