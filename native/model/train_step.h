// Losses of a batch, with and without gradients, and the optimiser.
#pragma once
#include <vector>

#include "model/engine.h"

namespace mot {

// Contracts: Model::evaluate, Model::backward, Model::adamw in model.h. check_lr_scales: Error("ERR_ARGUMENT") unless
// there are none or one for every tensor.
void check_lr_scales(const WeightList& list, const std::vector<double>& scales);
Losses evaluate(const Pass& pass, const Totals& totals, float* ce, float* lse);
Losses backward(Pass& pass, const Totals& totals);

class Optimizer {
 public:
  explicit Optimizer(const WeightList& list);
  OptimizerResult step(const Engine& engine, const AdamwOptions& options, double max_norm);

 private:
  // Tensors that learn at the same rate: one call of the op.
  struct Group {
    double scale;
    std::vector<AdamwRange> ranges;
  };
  // Elements [begin, end) of the flat arrays.
  struct Span {
    int64_t begin, end;
  };

  void set_scales(const std::vector<double>& scales);
  double gradient_norm(const Engine& engine) const;

  std::vector<AdamwRange> ranges_;  // one a tensor
  std::vector<double> scales_;      // that groups_ and trained_ were made for; empty: 1 for all
  std::vector<Group> groups_;       // without frozen tensors
  std::vector<Span> trained_;       // the same tensors, neighbours together
};

}  // namespace mot
