// Contract: ops/silu.h.
#include <cmath>

#include "reference/reference.h"

namespace mot::reference {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

int silu_forward(const Context*, const SiluForward* p) {
  for (int64_t n = 0; n < p->out.rows; n++) {
    for (int64_t d = 0; d < p->out.cols; d++) {
      const double x = get(p->x, n, d);
      set(p->out, n, d, x * sigmoid(x));
    }
  }
  return 0;
}

int silu_backward(const Context*, const SiluBackward* p) {
  for (int64_t n = 0; n < p->d_x.rows; n++) {
    for (int64_t d = 0; d < p->d_x.cols; d++) {
      const double x = get(p->x, n, d), s = sigmoid(x);
      set(p->d_x, n, d, get(p->d_out, n, d) * s * (1 + x * (1 - s)));
    }
  }
  return 0;
}

}  // namespace mot::reference
