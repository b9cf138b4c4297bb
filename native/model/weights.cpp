#include "model/weights.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/rng.h"
#include "core/thread_team.h"

namespace mot {
namespace {

constexpr int64_t kAlignment = 16;       // elements: 64 bytes
constexpr int64_t kDrawBlock = 1 << 16;  // elements that one task draws

// Levenshtein distance, for "did you mean".
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); j++) {
      const size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({substitute, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::vector<std::string> mlp_set_names(const ModelConfig& c, int64_t tower) {
  const std::string mlp = c.mlp.names[tower] + ".mlp";
  const int64_t experts = c.experts.empty() ? 0 : c.experts[tower].count;
  if (experts == 0) return {mlp};
  std::vector<std::string> names;
  for (int64_t e = 0; e < experts; e++) names.push_back(mlp + ".experts." + std::to_string(e));
  return names;
}

// The order is that of parameter_shapes() in the reference.
WeightList::WeightList(const ModelConfig& c) {
  using Init = WeightInfo::Init;
  int64_t place = -1;  // WeightInfo::layer of what is added
  // follows: right behind the tensor before, without an alignment gap, because one GEMM reads both.
  auto add = [&](std::string name, std::vector<int64_t> shape, Init init, bool follows = false) {
    int64_t count = 1;
    for (int64_t n : shape) count *= n;
    if (!follows) flat_count_ = (flat_count_ + kAlignment - 1) / kAlignment * kAlignment;
    const bool decay = shape.size() >= 2;
    index_.emplace(name, list_.size());
    list_.push_back({std::move(name), std::move(shape), flat_count_, count, decay, place, init});
    flat_count_ += count;
  };

  // Norms with towers of their own follow their branch.
  auto add_norms = [&](const std::string& prefix, const char* suffix) {
    for (const std::string& tower : c.norms->names) add(prefix + tower + suffix, {c.d_model}, Init::kOne);
  };

  add("embed_tokens.weight", {c.vocab, c.d_model}, Init::kNormal);
  if (c.diffusion) {
    auto linear = [&](const std::string& name, int64_t out, int64_t in) {
      add(name + ".weight", {out, in}, Init::kNormal);
      add(name + ".bias", {out}, Init::kZero);
    };
    linear("patch_in", c.d_model, c.diffusion->patch_dim);
    linear("time_mlp.0", c.d_model, c.d_model);
    linear("time_mlp.2", c.d_model, c.d_model);
    place = c.n_layers;
    linear("patch_out", c.diffusion->patch_dim, c.d_model);
  }
  for (int64_t layer = 0; layer < c.n_layers; layer++) {
    place = layer;
    const std::string prefix = "layers." + std::to_string(layer) + ".";
    for (const std::string& tower : c.self_attn.names) {
      const std::string attention = prefix + tower + ".self_attn.";
      const int64_t kv_dim = c.n_kv_heads * c.head_dim;
      add(attention + "q_proj.weight", {c.attn_dim(), c.d_model}, Init::kNormal);
      add(attention + "k_proj.weight", {kv_dim, c.d_model}, Init::kNormal, true);
      add(attention + "v_proj.weight", {kv_dim, c.d_model}, Init::kNormal, true);
      add(attention + "o_proj.weight", {c.d_model, c.attn_dim()}, Init::kNormalResidual);
      if (c.qk_norm) {
        add(attention + "q_norm.weight", {c.head_dim}, Init::kOne);
        add(attention + "k_norm.weight", {c.head_dim}, Init::kOne);
      }
      if (!c.norms) add(prefix + tower + ".attention_norm.weight", {c.d_model}, Init::kOne);
    }
    if (c.norms) add_norms(prefix, ".attention_norm.weight");
    for (size_t i = 0; i < c.mlp.names.size(); i++) {
      const std::string& tower = c.mlp.names[i];
      if (const int64_t experts = c.experts.empty() ? 0 : c.experts[i].count; experts > 0)
        add(prefix + tower + ".mlp.router.weight", {experts, c.d_model}, Init::kNormal);
      for (const std::string& set : mlp_set_names(c, static_cast<int64_t>(i))) {
        const std::string mlp = prefix + set + ".";
        add(mlp + "gate_proj.weight", {c.ffn_dim, c.d_model}, Init::kNormal);
        add(mlp + "up_proj.weight", {c.ffn_dim, c.d_model}, Init::kNormal, true);
        add(mlp + "down_proj.weight", {c.d_model, c.ffn_dim}, Init::kNormalResidual);
      }
      if (!c.norms) add(prefix + tower + ".ffn_norm.weight", {c.d_model}, Init::kOne);
    }
    if (c.norms) add_norms(prefix, ".ffn_norm.weight");
  }
  place = c.n_layers;
  for (const std::string& tower : c.final.names) add("norm." + tower + ".weight", {c.d_model}, Init::kOne);
  add("lm_head.weight", {c.vocab, c.d_model}, Init::kNormal);
}

const WeightInfo& WeightList::at(const std::string& name) const {
  if (auto found = index_.find(name); found != index_.end()) return list_[found->second];
  auto nearest = std::min_element(list_.begin(), list_.end(), [&](const WeightInfo& a, const WeightInfo& b) {
    return edit_distance(a.name, name) < edit_distance(b.name, name);
  });
  throw errorf("ERR_TENSOR_NAME", "[weights] the model has no tensor \"%s\"; the nearest name is \"%s\"", name.c_str(),
               nearest->name.c_str());
}

int64_t WeightList::parameter_count() const {
  int64_t count = 0;
  for (const WeightInfo& weight : list_) count += weight.count;
  return count;
}

void init_weights(const ModelConfig& config, const WeightList& list, uint64_t seed, float* flat) {
  const double residual_std = 0.02 / std::sqrt(2.0 * static_cast<double>(config.n_layers));
  for (const WeightInfo& weight : list.all()) {
    float* values = flat + weight.offset;
    if (weight.init == WeightInfo::Init::kOne || weight.init == WeightInfo::Init::kZero) {
      std::fill(values, values + weight.count, weight.init == WeightInfo::Init::kOne ? 1.0f : 0.0f);
      continue;
    }
    const double std = weight.init == WeightInfo::Init::kNormal ? 0.02 : residual_std;
    const RngKey key = rng_key(seed, weight.name);
    parallel_for(available_threads(), (weight.count + kDrawBlock - 1) / kDrawBlock, [&](int64_t block, int) {
      const int64_t end = std::min(weight.count, (block + 1) * kDrawBlock);
      for (int64_t i = block * kDrawBlock; i < end; i++)
        values[i] = static_cast<float>(std * normal(key, static_cast<uint64_t>(i)));
    });
  }
}

}  // namespace mot
