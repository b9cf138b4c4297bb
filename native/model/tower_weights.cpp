#include "model/tower_weights.h"

#include <string>

namespace mot {

ModelWeights::ModelWeights(const ModelConfig& c, const WeightList& list, float* weights, float* gradients) {
  // One weight of every tower: PREFIX + tower + SUFFIX is the first tensor, rows may reach over those that follow it.
  auto towers = [&](const std::vector<std::string>& names, const std::string& prefix, const std::string& suffix,
                    int64_t rows, int64_t cols) {
    std::vector<void*> value, gradient;
    std::vector<TensorRange> tensors;
    for (const std::string& tower : names) {
      const WeightInfo& first = list.at(prefix + tower + suffix);
      value.push_back(weights + first.offset);
      if (gradients) gradient.push_back(gradients + first.offset);
      const WeightInfo* end = &first;
      while (end->offset + end->count < first.offset + rows * cols) end++;
      const WeightInfo* begin = list.all().data();
      tensors.push_back({static_cast<size_t>(&first - begin), static_cast<size_t>(end + 1 - begin)});
    }
    const int64_t count = static_cast<int64_t>(names.size());
    Weight weight{};
    weight.value = {pointers_.emplace_back(std::move(value)).data(), count, kF32, rows, cols};
    weight.tensors = tensors_.emplace_back(std::move(tensors)).data();
    if (gradients) weight.gradient = {pointers_.emplace_back(std::move(gradient)).data(), count, kF32, rows, cols};
    return weight;
  };
  const std::vector<std::string> shared = {""};
  const int64_t D = c.d_model, E = c.head_dim, F = c.ffn_dim, HE = c.attn_dim();
  std::vector<std::string> mlp_sets;
  for (size_t tower = 0; tower < c.mlp.names.size(); tower++)
    for (std::string& name : mlp_set_names(c, static_cast<int64_t>(tower))) mlp_sets.push_back(std::move(name));

  embed_tokens = towers(shared, "embed_tokens", ".weight", c.vocab, D);
  if (c.diffusion) {
    auto linear = [&](const std::string& name, int64_t out, int64_t in) {
      return Linear{towers(shared, name, ".weight", out, in), towers(shared, name, ".bias", 1, out)};
    };
    patch_in = linear("patch_in", D, c.diffusion->patch_dim);
    time_in = linear("time_mlp.0", D, D);
    time_out = linear("time_mlp.2", D, D);
    patch_out = linear("patch_out", c.diffusion->patch_dim, D);
  }
  for (int64_t i = 0; i < c.n_layers; i++) {
    const std::string prefix = "layers." + std::to_string(i) + ".";
    const auto &attention = c.self_attn.names, &mlp = c.mlp.names;
    LayerWeights layer{};
    layer.qkv = towers(attention, prefix, ".self_attn.q_proj.weight", c.qkv_dim(), D);
    if (c.qk_norm) {
      layer.q_norm = towers(attention, prefix, ".self_attn.q_norm.weight", 1, E);
      layer.k_norm = towers(attention, prefix, ".self_attn.k_norm.weight", 1, E);
    }
    layer.o = towers(attention, prefix, ".self_attn.o_proj.weight", D, HE);
    layer.attention_norm = towers(c.attention_norm().names, prefix, ".attention_norm.weight", 1, D);
    layer.gate_up = towers(mlp_sets, prefix, ".gate_proj.weight", 2 * F, D);
    layer.down = towers(mlp_sets, prefix, ".down_proj.weight", D, F);
    for (size_t tower = 0; tower < c.experts.size(); tower++) {
      const int64_t experts = c.experts[tower].count;
      layer.routers.push_back(experts ? towers({mlp[tower]}, prefix, ".mlp.router.weight", experts, D) : Weight{});
    }
    layer.ffn_norm = towers(c.ffn_norm().names, prefix, ".ffn_norm.weight", 1, D);
    layers.push_back(layer);
  }
  final_norm = towers(c.final.names, "norm.", ".weight", 1, D);
  lm_head = towers(shared, "lm_head", ".weight", c.vocab, D);
}

}  // namespace mot
