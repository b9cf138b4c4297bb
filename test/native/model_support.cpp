#include "model_support.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "core/rng.h"
#include "cpu/backend.h"

namespace mot::test {
namespace {

// Values of the golden files' configs, which are flat but for "untied" and "diffusion".
std::string json_value(const std::string& json, const std::string& key) {
  const size_t at = json.find("\"" + key + "\":");
  if (at == std::string::npos) throw std::runtime_error("no key " + key + " in " + json);
  const size_t begin = json.find_first_not_of(' ', at + key.size() + 3);
  const char open = json[begin];
  const size_t end = open == '['   ? json.find(']', begin) + 1
                     : open == '{' ? json.find('}', begin) + 1
                                   : json.find_first_of(",}", begin);
  return json.substr(begin, end - begin);
}

double json_number(const std::string& json, const std::string& key) { return std::stod(json_value(json, key)); }
bool json_true(const std::string& json, const std::string& key) { return json_value(json, key) == "true"; }

std::vector<std::string> json_strings(const std::string& array) {
  std::vector<std::string> out;
  for (size_t open = array.find('"'); open != std::string::npos;) {
    const size_t close = array.find('"', open + 1);
    out.push_back(array.substr(open + 1, close - open - 1));
    open = array.find('"', close + 1);
  }
  return out;
}

PartTowers make_part(const std::vector<std::string>& modalities, bool untied) {
  if (!untied) return {{"shared"}, std::vector<int32_t>(modalities.size(), 0)};
  std::vector<int32_t> towers(modalities.size());
  std::iota(towers.begin(), towers.end(), 0);
  return {modalities, towers};
}

ModelConfig golden_config(const std::string& json) {
  const auto modalities = json_strings(json_value(json, "modalities"));
  std::optional<Diffusion> diffusion;
  if (json.find("\"diffusion\":") != std::string::npos) {
    const std::string inner = json_value(json, "diffusion");
    const auto image = std::find(modalities.begin(), modalities.end(), "image") - modalities.begin();
    diffusion = {image, static_cast<int64_t>(json_number(inner, "patch_dim")),
                 static_cast<int64_t>(json_number(inner, "steps")), json_number(inner, "weight")};
  }
  const std::string untied = json_value(json, "untied");
  auto integer = [&](const char* key) { return static_cast<int64_t>(json_number(json, key)); };
  ModelConfig config{.d_model = integer("d_model"),
                     .n_layers = integer("n_layers"),
                     .n_heads = integer("n_heads"),
                     .n_kv_heads = integer("n_kv_heads"),
                     .head_dim = integer("head_dim"),
                     .ffn_dim = integer("ffn_dim"),
                     .vocab = integer("vocab"),
                     .modalities = static_cast<int64_t>(modalities.size()),
                     .norm_placement = json_value(json, "norm_placement") == "\"pre\"" ? NormPlacement::kPre
                                                                                       : NormPlacement::kBranchOutput,
                     .qk_norm = json_true(json, "qk_norm"),
                     .norm_eps = json_number(json, "norm_eps"),
                     .rope_theta = json_number(json, "rope_theta"),
                     .z_loss = json_number(json, "z_loss"),
                     .self_attn = make_part(modalities, json_true(untied, "self_attn")),
                     .mlp = make_part(modalities, json_true(untied, "mlp")),
                     .final = make_part(modalities, json_true(untied, "final")),
                     .loss_weight = std::vector<double>(modalities.size(), 1.0),
                     .experts = {},
                     .diffusion = diffusion};
  if (json.find("\"experts\":") == std::string::npos) return config;
  const std::string experts = json_value(json, "experts");
  for (const std::string& tower : config.mlp.names) {
    Experts of;
    if (experts.find("\"" + tower + "\":") != std::string::npos)
      of.count = static_cast<int64_t>(json_number(experts, tower));
    config.experts.push_back(of);
  }
  return config;
}

const std::string& metadata(const SafetensorsFile& file, const std::string& key) {
  for (const auto& [name, value] : file.metadata())
    if (name == key) return value;
  throw std::runtime_error("no metadata " + key);
}

template <class T>
std::vector<T> values(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo* info = file.find(name);
  if (!info) throw std::runtime_error("no tensor " + name);
  std::vector<T> out(static_cast<size_t>(info->end - info->begin) / sizeof(T));
  std::memcpy(out.data(), file.data(*info), out.size() * sizeof(T));
  return out;
}

}  // namespace

Batch OwnedBatch::view() const {
  Batch batch{tokens(),        token.data(),  modality.data(), position.data(),
              kv_start.data(), kv_end.data(), target.data(),   target_modality.data()};
  if (patch_row.empty()) return batch;
  batch.latent_rows = static_cast<int64_t>(image_of_row.size());
  batch.images = static_cast<int64_t>(timestep.size());
  batch.patch_row = patch_row.data();
  batch.latent = latent.data();
  batch.noise = noise.empty() ? nullptr : noise.data();
  batch.image_of_row = image_of_row.data();
  batch.timestep = timestep.data();
  return batch;
}

void OwnedBatch::append(const OwnedBatch& other) {
  const auto shift = static_cast<int32_t>(tokens());
  auto join = [](std::vector<int32_t>& to, const std::vector<int32_t>& from, int32_t add) {
    for (int32_t x : from) to.push_back(x + add);
  };
  join(token, other.token, 0);
  join(modality, other.modality, 0);
  join(position, other.position, 0);
  join(kv_start, other.kv_start, shift);
  join(kv_end, other.kv_end, shift);
  join(target, other.target, 0);
  join(target_modality, other.target_modality, 0);
  const auto rows = static_cast<int32_t>(image_of_row.size());
  for (int32_t row : other.patch_row) patch_row.push_back(row < 0 ? -1 : row + rows);
  join(image_of_row, other.image_of_row, static_cast<int32_t>(timestep.size()));
  join(timestep, other.timestep, 0);
  latent.insert(latent.end(), other.latent.begin(), other.latent.end());
  noise.insert(noise.end(), other.noise.begin(), other.noise.end());
}

void OwnedBatch::add_image(const ModelConfig& config, int32_t first, int32_t count, int32_t level, uint64_t seed) {
  if (patch_row.empty()) patch_row.assign(token.size(), -1);
  const RngKey key = rng_key(seed, "image");
  const auto image = static_cast<int32_t>(timestep.size());
  timestep.push_back(level);
  for (int32_t t = first; t < first + count; t++) {
    const auto row = static_cast<int32_t>(image_of_row.size());
    patch_row[t] = row;
    image_of_row.push_back(image);
    modality[t] = static_cast<int32_t>(config.diffusion->modality);
    kv_end[t] = first + count;
    target[t] = -1;
    if (t > 0) target_modality[t - 1] = modality[t];
    for (int64_t i = 0; i < config.diffusion->patch_dim; i++) {
      const auto draw = static_cast<uint64_t>(row * config.diffusion->patch_dim + i);
      latent.push_back(normal(key, 2 * draw));
      noise.push_back(normal(key, 2 * draw + 1));
    }
  }
  if (first > 0) target[first - 1] = -1;
}

ModelConfig make_config(int64_t modalities, const Untied& untied) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < modalities; i++) names.push_back("m" + std::to_string(i));
  return {.d_model = 24,
          .n_layers = 2,
          .n_heads = 4,
          .n_kv_heads = 2,
          .head_dim = 8,
          .ffn_dim = 40,
          .vocab = 61,
          .modalities = modalities,
          .norm_placement = NormPlacement::kBranchOutput,
          .qk_norm = true,
          .norm_eps = 1e-5,
          .rope_theta = 10000.0,
          .z_loss = 1e-4,
          .self_attn = make_part(names, untied.self_attn),
          .mlp = make_part(names, untied.mlp),
          .final = make_part(names, untied.final),
          .loss_weight = std::vector<double>(static_cast<size_t>(modalities), 1.0),
          .experts = {}};
}

OwnedBatch random_batch(const ModelConfig& config, const std::vector<int64_t>& lengths, uint64_t seed) {
  const RngKey key = rng_key(seed, "batch");
  uint64_t draw = 0;
  auto below = [&](int64_t n) { return static_cast<int32_t>(uniform(key, draw++) * static_cast<float>(n)); };
  OwnedBatch b;
  int32_t start = 0;
  for (int64_t length : lengths) {
    int32_t modality = 0, run = 0;
    for (int32_t i = 0; i < length; i++) {
      if (run-- == 0) {
        modality = below(config.modalities);
        run = below(6);
      }
      b.token.push_back(below(config.vocab));
      b.modality.push_back(modality);
      b.position.push_back(i);
      b.kv_start.push_back(start);
      b.kv_end.push_back(start + i + 1);
    }
    for (int32_t i = 0; i < length; i++) {
      const bool last = i + 1 == length;
      b.target.push_back(last ? -1 : b.token[static_cast<size_t>(start + i + 1)]);
      b.target_modality.push_back(last ? 0 : b.modality[static_cast<size_t>(start + i + 1)]);
    }
    start += static_cast<int32_t>(length);
  }
  return b;
}

void fill_random_weights(Model& model, uint64_t seed) {
  for (const WeightInfo& weight : model.weights().all()) {
    const RngKey key = rng_key(seed, weight.name);
    const double scale = weight.decay ? 1.0 / std::sqrt(static_cast<double>(weight.shape.back())) : 0.1;
    const double mean = weight.init == WeightInfo::Init::kOne ? 1.0 : 0.0;
    for (int64_t i = 0; i < weight.count; i++)
      model.weight_data()[weight.offset + i] = static_cast<float>(mean + scale * normal(key, static_cast<uint64_t>(i)));
  }
}

std::vector<std::string> backend_names() {
  std::vector<std::string> names = {"reference"};
  const char* variants[8];
  const int count = cpu_variants(variants, 8);
  for (int i = 0; i < count; i++) names.push_back(std::string("cpu/") + variants[i]);
  return names;
}

const OpTable* backend(const std::string& name) {
  return name == "reference" ? reference_backend() : cpu_backend_variant(name.substr(4).c_str());
}

Golden::Golden(const std::string& name)
    : file(std::string(MOT_GOLDEN_DIR) + "/" + name + ".safetensors"),
      config(golden_config(metadata(file, "config"))),
      lr(json_number(metadata(file, "config"), "lr")),
      batch{values<int32_t>(file, "in.token"),          values<int32_t>(file, "in.modality"),
            values<int32_t>(file, "in.position"),       values<int32_t>(file, "in.kv_start"),
            values<int32_t>(file, "in.kv_end"),         values<int32_t>(file, "in.target"),
            values<int32_t>(file, "in.target_modality")} {
  if (!config.diffusion) return;
  batch.patch_row = values<int32_t>(file, "in.patch_row");
  batch.image_of_row = values<int32_t>(file, "in.image_of_row");
  batch.timestep = values<int32_t>(file, "in.timestep");
  batch.latent = values<float>(file, "in.latent");
  batch.noise = values<float>(file, "in.noise");
}

std::vector<float> Golden::tensor(const std::string& name) const { return values<float>(file, name); }

void Golden::load_weights(Model& model) const {
  for (const WeightInfo& weight : model.weights().all()) {
    const std::vector<float> from = tensor("p." + weight.name);
    if (static_cast<int64_t>(from.size()) != weight.count) throw std::runtime_error("shape of " + weight.name);
    std::copy(from.begin(), from.end(), model.weight_data() + weight.offset);
  }
}

std::vector<std::string> golden_names() {
  return {"dense",
          "mot_absent_modality",
          "mot_branch_output_norm",
          "mot_ffn_untied_only",
          "mot_odd_sizes",
          "mot_pre_norm_gqa",
          "mot_two_modalities_wide_head",
          "moe_4x_expert_choice",
          "hybrid_moe_text_tower",
          "transfusion"};
}

double relative_error(const float* x, const float* y, int64_t count) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < count; i++) {
    const double d = static_cast<double>(x[i]) - y[i];
    difference += d * d;
    norm += static_cast<double>(y[i]) * y[i];
  }
  if (norm == 0) return difference == 0 ? 0.0 : difference / 0.0;
  return std::sqrt(difference / norm);
}

double relative_error(const std::vector<float>& x, const std::vector<float>& y) {
  if (x.size() != y.size()) throw std::runtime_error("sizes differ");
  return relative_error(x.data(), y.data(), static_cast<int64_t>(x.size()));
}

double relative_error(double x, double y) { return y == 0 ? (x == 0 ? 0.0 : x / 0.0) : std::abs(x - y) / std::abs(y); }

std::vector<int32_t> all_positions(int64_t count) {
  std::vector<int32_t> positions(static_cast<size_t>(count));
  std::iota(positions.begin(), positions.end(), 0);
  return positions;
}

std::string identifier(std::string name) {
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

}  // namespace mot::test
