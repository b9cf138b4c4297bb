// The MLP of a model in which some tower has experts. Rows of the sorted order are copied to the experts that get them
// (routed rows), the weight sets work on these as on towers, and their results are summed back. Towers without experts
// take the same way with a single expert and no router.
#pragma once
#include "model/branch.h"

namespace mot {

// From the branch's input to the activation before the last projection.
void experts_inside(const Pass& pass, int64_t layer, const Branch& branch);

// From there back to the residual stream.
void experts_output(const Pass& pass, int64_t layer, const Branch& branch);
// Its part that backward reads where norms come last: fills branch.branch.
void experts_branch(const Pass& pass, int64_t layer, const Branch& branch);

// The mirror of both.
void experts_backward(const Pass& pass, int64_t layer, const Branch& branch);

// What the load-balance losses of a batch add to the objective, and their mean over layers and towers that route by
// token choice, 1 when all are even. Read after the last layer.
struct BalanceLoss {
  double weighted = 0, mean = 0;
};
BalanceLoss balance_loss(const Pass& pass);

}  // namespace mot
