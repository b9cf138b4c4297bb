// Contract: ops/grad_norm.h.
#include "reference/reference.h"

namespace mot::reference {

int grad_norm(const Context*, const GradNorm* p) {
  double sum = 0;
  for (int64_t i = 0; i < p->count; i++) sum += static_cast<double>(p->grad[i]) * p->grad[i];
  *p->sum_of_squares = sum;
  return 0;
}

}  // namespace mot::reference
