// Contract: ops/swiglu.h.
#include <cmath>

#include "reference/reference.h"

namespace mot::reference {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

int swiglu_forward(const Context*, const SwigluForward* p) {
  const int64_t F = p->out.cols;
  const DType statistics = statistics_dtype(p->gate_up);
  for (int64_t n = 0; n < p->out.rows; n++) {
    const double scale = p->row_scale ? get(p->row_scale, statistics, n) : 1;
    for (int64_t f = 0; f < F; f++) {
      const double gate = get(p->gate_up, n, f), up = get(p->gate_up, n, F + f);
      set(p->out, n, f, scale * gate * sigmoid(gate) * up);
    }
  }
  return 0;
}

int swiglu_backward(const Context*, const SwigluBackward* p) {
  const int64_t F = p->d_out.cols;
  const DType statistics = statistics_dtype(p->gate_up);
  for (int64_t n = 0; n < p->d_out.rows; n++) {
    const double scale = p->row_scale ? get(p->row_scale, statistics, n) : 1;
    double d_scale = 0;
    for (int64_t f = 0; f < F; f++) {
      // Both are read before either is written: d_gate_up may be gate_up.
      const double gate = get(p->gate_up, n, f), up = get(p->gate_up, n, F + f);
      const double d_out = get(p->d_out, n, f), s = sigmoid(gate);
      d_scale += d_out * gate * s * up;
      set(p->d_gate_up, n, f, d_out * scale * up * s * (1 + gate * (1 - s)));
      set(p->d_gate_up, n, F + f, d_out * scale * gate * s);
    }
    if (p->d_row_scale) set(p->d_row_scale, statistics, n, d_scale);
  }
  return 0;
}

}  // namespace mot::reference
