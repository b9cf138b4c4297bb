#include "model/train_step.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "model/experts.h"
#include "model/head.h"

namespace mot {
namespace {

// Rows without a target hold 0, as the op's contract says.
void to_sequence_order(const TokenGroups& groups, const float* by_row, float* out) {
  if (!out) return;
  for (int64_t t = 0; t < groups.tokens; t++) out[t] = by_row[groups.row[t]];
}

// The batch's share of the targets of its global batch.
double share_of_targets(const TokenGroups& groups, int64_t total_targets) {
  int64_t own = 0;
  for (int64_t count : groups.target_count) own += count;
  if (own == 0) return 0;
  return total_targets > 0 ? static_cast<double>(own) / static_cast<double>(total_targets) : 1;
}

void add_balance_loss(const Pass& pass, int64_t total_targets, Losses& losses) {
  if (!pass.engine.config.has_balance_loss()) return;
  const double share = share_of_targets(pass.groups, total_targets);
  const BalanceLoss balance = balance_loss(pass);
  losses.balance_loss = share * balance.mean;
  losses.loss += share * balance.weighted;
}

}  // namespace

void check_lr_scales(const WeightList& list, const std::vector<double>& scales) {
  if (!scales.empty() && scales.size() != list.all().size())
    throw errorf("ERR_ARGUMENT", "[model] expected lr_scales to have one value for each of %zu tensors, got %zu",
                 list.all().size(), scales.size());
}

Losses evaluate(const Pass& pass, const Totals& totals, float* ce, float* lse) {
  const Engine& e = pass.engine;
  forward_layers(pass);
  final_norm(pass);
  Losses losses = head_losses(pass, totals, false);
  add_balance_loss(pass, totals.targets, losses);
  to_sequence_order(pass.groups, e.floats(e.buffers.ce), ce);
  to_sequence_order(pass.groups, e.floats(e.buffers.lse), lse);
  return losses;
}

Losses backward(Pass& pass, const Totals& totals) {
  forward_layers(pass);
  final_norm(pass);
  Losses losses = head_losses(pass, totals, true);
  add_balance_loss(pass, totals.targets, losses);
  pass.balance_share = share_of_targets(pass.groups, totals.targets);
  backward_layers(pass);
  return losses;
}

Optimizer::Optimizer(const WeightList& list) {
  for (const WeightInfo& weight : list.all())
    ranges_.push_back({weight.offset, weight.offset + weight.count, weight.decay ? 1 : 0});
  set_scales({});
}

void Optimizer::set_scales(const std::vector<double>& scales) {
  groups_.clear();
  trained_.clear();
  bool follows = false;  // the tensor before is trained
  for (size_t i = 0; i < ranges_.size(); i++) {
    const double scale = scales.empty() ? 1 : scales[i];
    const AdamwRange& range = ranges_[i];
    if (scale == 0) {
      follows = false;
      continue;
    }
    auto group = std::find_if(groups_.begin(), groups_.end(), [&](const Group& g) { return g.scale == scale; });
    if (group == groups_.end()) group = groups_.insert(groups_.end(), Group{scale, {}});
    group->ranges.push_back(range);
    // The gap between two tensors is zero.
    if (follows)
      trained_.back().end = range.end;
    else
      trained_.push_back({range.begin, range.end});
    follows = true;
  }
  scales_ = scales;
}

double Optimizer::gradient_norm(const Engine& e) const {
  double total = 0;
  for (const Span& span : trained_) {
    double sum_of_squares = 0;
    e.run(&OpTable::grad_norm, GradNorm{.grad = e.floats(e.buffers.gradients) + span.begin,
                                        .count = span.end - span.begin,
                                        .sum_of_squares = &sum_of_squares});
    total += sum_of_squares;
  }
  return std::sqrt(total);
}

OptimizerResult Optimizer::step(const Engine& e, const AdamwOptions& options, double max_norm) {
  if (options.ema_decay && !e.ema)
    throw errorf("ERR_UNSUPPORTED", "[model] expected a model created with ema to average its weights");
  check_lr_scales(e.list, options.lr_scales);
  if (options.lr_scales != scales_) set_scales(options.lr_scales);
  const double norm = gradient_norm(e);
  if (!std::isfinite(norm) || norm > max_norm) return {norm, false};
  for (const Group& group : groups_)
    e.run(&OpTable::adamw, Adamw{.weight = e.floats(e.buffers.weights),
                                 .grad = e.floats(e.buffers.gradients),
                                 .m = e.floats(e.buffers.m),
                                 .v = e.floats(e.buffers.v),
                                 .ranges = group.ranges.data(),
                                 .range_count = static_cast<int64_t>(group.ranges.size()),
                                 .lr = options.lr * group.scale,
                                 .beta1 = options.beta1,
                                 .beta2 = options.beta2,
                                 .eps = options.eps,
                                 .weight_decay = options.weight_decay,
                                 .grad_scale = options.clip > 0 ? std::min(1.0, options.clip / (norm + 1e-6)) : 1.0,
                                 .step = options.step});
  if (options.ema_decay)
    e.run(&OpTable::ema, Ema{.average = e.floats(e.buffers.ema),
                             .value = e.floats(e.buffers.weights),
                             .count = e.list.flat_count(),
                             .decay = *options.ema_decay});
  return {norm, true};
}

}  // namespace mot
