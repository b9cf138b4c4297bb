// Losses of a batch, with and without gradients, and the optimiser.
#pragma once
#include "model/engine.h"

namespace mot {

// Contracts: Model::evaluate, Model::backward, Model::adamw in model.h.
Losses evaluate(const Pass& pass, const Totals& totals, float* ce, float* lse);
Losses backward(Pass& pass, const Totals& totals);

class Optimizer {
 public:
  explicit Optimizer(const WeightList& list);
  OptimizerResult step(const Engine& engine, const AdamwOptions& options, double max_norm) const;

 private:
  std::vector<AdamwRange> ranges_;  // one a tensor
};

}  // namespace mot
