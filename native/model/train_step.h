// Losses of a batch, with and without gradients, and the optimiser.
#pragma once
#include "model/engine.h"

namespace mot {

// Contracts: Model::evaluate, Model::backward, Model::adamw in model.h.
Losses evaluate(const Pass& pass, int64_t total_targets, float* ce, float* lse);
Losses backward(Pass& pass, int64_t total_targets);

class Optimizer {
 public:
  explicit Optimizer(const WeightList& list);
  OptimizerResult step(const Engine& engine, const AdamwOptions& options) const;

 private:
  std::vector<AdamwRange> ranges_;  // one a tensor
};

}  // namespace mot
