// Contract: ops/rms_norm.h.
#include <cmath>

#include "reference/reference.h"

namespace mot::reference {

int rms_norm_forward(const Context*, const RmsNormForward* p) {
  const int64_t D = p->x.cols;
  const DType statistics = statistics_dtype(p->x);

  for_each_padding_row(p->segments, p->x.rows, [&](int64_t n) {
    zero_row(p->out, n);
    if (given(p->out_copy)) zero_row(p->out_copy, n);
    set(p->rstd, statistics, n, 0);
  });
  for_each_row(p->segments, [&](int64_t n, int64_t tower) {
    const Matrix weight = tower_matrix(p->weight, tower);
    double squares = 0;
    for (int64_t d = 0; d < D; d++) squares += get(p->x, n, d) * get(p->x, n, d);
    const double rstd = 1 / std::sqrt(squares / D + p->eps);
    set(p->rstd, statistics, n, rstd);
    for (int64_t d = 0; d < D; d++) {
      double out = get(p->x, n, d) * rstd * get(weight, 0, d);
      if (given(p->residual)) out += get(p->residual, n, d);
      set(p->out, n, d, out);
      if (given(p->out_copy)) set(p->out_copy, n, d, out);
    }
  });
  return 0;
}

int rms_norm_backward(const Context*, const RmsNormBackward* p) {
  const int64_t D = p->x.cols;
  const DType statistics = statistics_dtype(p->x);

  // Before d_x, which may be d_out.
  for (int64_t tower = 0; tower < p->d_weight.towers; tower++) {
    const Matrix d_weight = tower_matrix(p->d_weight, tower);
    for (int64_t d = 0; d < D; d++) {
      double sum = 0;
      for_each_row_of_tower(p->segments, tower, [&](int64_t n) {
        sum += get(p->d_out, n, d) * get(p->x, n, d) * get(p->rstd, statistics, n);
      });
      add(d_weight, 0, d, sum);
    }
  }

  if (!p->accumulate_d_x) {
    for_each_padding_row(p->segments, p->x.rows, [&](int64_t n) { zero_row(p->d_x, n); });
  }
  for_each_row(p->segments, [&](int64_t n, int64_t tower) {
    const Matrix weight = tower_matrix(p->weight, tower);
    const double rstd = get(p->rstd, statistics, n);
    double g_dot_x = 0;
    for (int64_t d = 0; d < D; d++) g_dot_x += get(p->d_out, n, d) * get(weight, 0, d) * get(p->x, n, d);
    const double c = g_dot_x / D * rstd * rstd;
    for (int64_t d = 0; d < D; d++) {
      const double g = get(p->d_out, n, d) * get(weight, 0, d);
      const double d_x = rstd * (g - get(p->x, n, d) * c);
      set(p->d_x, n, d, p->accumulate_d_x ? get(p->d_x, n, d) + d_x : d_x);
    }
  });
  return 0;
}

}  // namespace mot::reference
