#include "model/train_step.h"

#include <algorithm>
#include <cmath>

#include "model/head.h"

namespace mot {
namespace {

// Rows without a target hold 0, as the op's contract says.
void to_sequence_order(const TokenGroups& groups, const float* by_row, float* out) {
  if (!out) return;
  for (int64_t t = 0; t < groups.tokens; t++) out[t] = by_row[groups.row[t]];
}

}  // namespace

Losses evaluate(const Pass& pass, int64_t total_targets, float* ce, float* lse) {
  const Engine& e = pass.engine;
  forward_layers(pass);
  final_norm(pass);
  Losses losses = head_losses(pass, total_targets, false);
  to_sequence_order(pass.groups, e.floats(e.buffers.ce), ce);
  to_sequence_order(pass.groups, e.floats(e.buffers.lse), lse);
  return losses;
}

Losses backward(const Pass& pass, int64_t total_targets) {
  forward_layers(pass);
  final_norm(pass);
  Losses losses = head_losses(pass, total_targets, true);
  backward_layers(pass);
  return losses;
}

Optimizer::Optimizer(const WeightList& list) {
  for (const WeightInfo& weight : list.all())
    ranges_.push_back({weight.offset, weight.offset + weight.count, weight.decay ? 1 : 0});
}

OptimizerResult Optimizer::step(const Engine& e, const AdamwOptions& options) const {
  double sum_of_squares = 0;
  e.run(
      &OpTable::grad_norm,
      GradNorm{.grad = e.floats(e.buffers.gradients), .count = e.list.flat_count(), .sum_of_squares = &sum_of_squares});
  const double norm = std::sqrt(sum_of_squares);
  if (!std::isfinite(norm)) return {norm, false};
  e.run(&OpTable::adamw, Adamw{.weight = e.floats(e.buffers.weights),
                               .grad = e.floats(e.buffers.gradients),
                               .m = e.floats(e.buffers.m),
                               .v = e.floats(e.buffers.v),
                               .ranges = ranges_.data(),
                               .range_count = static_cast<int64_t>(ranges_.size()),
                               .lr = options.lr,
                               .beta1 = options.beta1,
                               .beta2 = options.beta2,
                               .eps = options.eps,
                               .weight_decay = options.weight_decay,
                               .grad_scale = options.clip > 0 ? std::min(1.0, options.clip / (norm + 1e-6)) : 1.0,
                               .step = options.step});
  return {norm, true};
}

}  // namespace mot
