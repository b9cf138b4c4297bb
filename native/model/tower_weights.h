// The weights as the ops take them: for each projection and norm one pointer per tower, into the flat arrays. Built
// once, so that a step makes no lists.
#pragma once
#include <deque>
#include <vector>

#include "model/config.h"
#include "model/weights.h"
#include "ops/types.h"

namespace mot {

// Of a tower's weight the tensors in WeightList::all(): several where one GEMM reads them all.
struct TensorRange {
  size_t begin, end;
};

struct Weight {
  TowerWeights value;
  TowerWeights gradient;       // data == nullptr without gradients
  const TensorRange* tensors;  // of every tower
};

struct LayerWeights {
  Weight qkv;             // [(H+2K)E, D]
  Weight q_norm, k_norm;  // [1, E]; data == nullptr without QK-norm
  Weight o;               // [D, H*E]
  Weight attention_norm;  // [1, D]
  Weight gate_up;         // [2F, D], by weight set: towers, or their experts
  Weight down;            // [D, F], by weight set
  Weight ffn_norm;        // [1, D]
  // By tower of the MLP: its router [experts, D], a weight of one tower; data == nullptr for a tower without experts.
  // Empty where no tower has any.
  std::vector<Weight> routers;
};

struct Linear {
  Weight weight;  // [O, I], one tower
  Weight bias;    // [1, O], one tower
};

class ModelWeights {
 public:
  // gradients: nullptr for a model that does not train. Both arrays must outlive this.
  ModelWeights(const ModelConfig& config, const WeightList& list, float* weights, float* gradients);
  ModelWeights(const ModelWeights&) = delete;
  ModelWeights& operator=(const ModelWeights&) = delete;

  Weight embed_tokens;                            // [V, D], one tower
  Linear patch_in, time_in, time_out, patch_out;  // [D, P], [D, D], [D, D], [P, D]; only with diffusion
  std::vector<LayerWeights> layers;
  Weight final_norm;  // [1, D]
  Weight lm_head;     // [V, D], one tower

 private:
  // What TowerWeights::data and Weight::tensors point at; a deque does not move its elements.
  std::deque<std::vector<void*>> pointers_;
  std::deque<std::vector<TensorRange>> tensors_;
};

// The matrix of a weight that has one tower.
inline Matrix only_matrix(const TowerWeights& w) {
  if (!w.data) return {};
  return {w.data[0], w.dtype, w.rows, w.cols, w.cols};
}

}  // namespace mot
