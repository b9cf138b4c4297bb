// The one list of weight tensors: names, shapes, places in the flat arrays of weights, gradients and moments.
// Names and shapes are those of the reference: layers.{i}.{tower}.self_attn.q_proj.weight, [out, in].
// q, k and v of a tower lie next to each other, so do gate and up: one GEMM each.
#pragma once
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/config.h"

namespace mot {

struct WeightInfo {
  std::string name;
  std::vector<int64_t> shape;  // one or two dimensions
  int64_t offset, count;       // elements in the flat array
  bool decay;                  // two dimensions or more: AdamW's weight decay applies
  int64_t layer;               // that it belongs to; -1: what is before the layers, n_layers: what is behind them
  enum class Init { kNormal, kNormalResidual, kOne, kZero } init;  // std 0.02; 0.02 / sqrt(2 * layers); 1; 0
};

class WeightList {
 public:
  explicit WeightList(const ModelConfig& config);
  const std::vector<WeightInfo>& all() const { return list_; }  // checkpoint order, as in the reference
  const WeightInfo& at(const std::string& name) const;          // Error("ERR_TENSOR_NAME") with the nearest name
  int64_t flat_count() const { return flat_count_; }            // with alignment gaps, which stay zero
  int64_t parameter_count() const;                              // without

 private:
  std::vector<WeightInfo> list_;
  std::unordered_map<std::string, size_t> index_;
  int64_t flat_count_ = 0;
};

// What the weight sets of one tower's MLP are called in tensor names, between the layer and the projection: "text.mlp",
// or "text.mlp.experts.0", "text.mlp.experts.1", ...
std::vector<std::string> mlp_set_names(const ModelConfig& config, int64_t tower);

// Draws every tensor from a counter-based generator keyed by (seed, tensor name): same values in any order.
void init_weights(const ModelConfig& config, const WeightList& list, uint64_t seed, float* flat);

}  // namespace mot
