// Contract: ops/adamw.h.
#include <cmath>

#include "reference/reference.h"

namespace mot::reference {

int adamw(const Context*, const Adamw* p) {
  const double step = static_cast<double>(p->step);
  const double correction1 = 1 - std::pow(p->beta1, step), correction2 = 1 - std::pow(p->beta2, step);
  for (int64_t r = 0; r < p->range_count; r++) {
    const AdamwRange& range = p->ranges[r];
    const double keep = range.decay ? 1 - p->lr * p->weight_decay : 1;
    for (int64_t i = range.begin; i < range.end; i++) {
      const double grad = p->grad[i] * p->grad_scale;
      const double m = p->beta1 * p->m[i] + (1 - p->beta1) * grad;
      const double v = p->beta2 * p->v[i] + (1 - p->beta2) * grad * grad;
      const double update = m / correction1 / (std::sqrt(v / correction2) + p->eps);
      p->weight[i] = static_cast<float>(p->weight[i] * keep - p->lr * update);
      p->m[i] = static_cast<float>(m);
      p->v[i] = static_cast<float>(v);
    }
  }
  return 0;
}

}  // namespace mot::reference
