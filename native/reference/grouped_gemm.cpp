// Contract: ops/grouped_gemm.h.
#include <algorithm>

#include "reference/reference.h"

namespace mot::reference {

int grouped_gemm_forward(const Context* context, const GroupedGemmForward* p) {
  const int64_t O = p->weight.rows, I = p->weight.cols;
  Scratch scratch(context);
  double* x = scratch.take(I);
  double* w = scratch.take(I);

  for_each_padding_row(p->segments, p->y.rows, [&](int64_t n) { zero_row(p->y, n); });
  for_each_row(p->segments, [&](int64_t n, int64_t tower) {
    const Matrix weight = tower_matrix(p->weight, tower);
    load_operands(p->x, n, p->compute, x);
    for (int64_t o = 0; o < O; o++) {
      load_operands(weight, o, p->compute, w);
      double y = 0;
      for (int64_t i = 0; i < I; i++) y += x[i] * w[i];
      if (given(p->residual)) y += get(p->residual, n, o);
      set(p->y, n, o, y);
    }
  });
  return 0;
}

int grouped_gemm_d_x(const Context* context, const GroupedGemmDx* p) {
  const int64_t O = p->weight.rows, I = p->weight.cols;
  Scratch scratch(context);
  double* w = scratch.take(I);
  double* d_x = scratch.take(I);

  if (!p->accumulate) {
    for_each_padding_row(p->segments, p->d_x.rows, [&](int64_t n) { zero_row(p->d_x, n); });
  }
  for_each_row(p->segments, [&](int64_t n, int64_t tower) {
    const Matrix weight = tower_matrix(p->weight, tower);
    std::fill(d_x, d_x + I, 0.0);
    for (int64_t o = 0; o < O; o++) {
      const double d_y = as_operand(get(p->d_y, n, o), p->compute);
      load_operands(weight, o, p->compute, w);
      for (int64_t i = 0; i < I; i++) d_x[i] += d_y * w[i];
    }
    for (int64_t i = 0; i < I; i++) set(p->d_x, n, i, p->accumulate ? get(p->d_x, n, i) + d_x[i] : d_x[i]);
  });
  return 0;
}

int grouped_gemm_d_w(const Context* context, const GroupedGemmDw* p) {
  const int64_t O = p->d_w.rows, I = p->d_w.cols;
  Scratch scratch(context);
  double* x = scratch.take(I);
  double* sum = scratch.take(I);

  for (int64_t tower = 0; tower < p->d_w.towers; tower++) {
    const Matrix d_w = tower_matrix(p->d_w, tower);
    for (int64_t o = 0; o < O; o++) {
      std::fill(sum, sum + I, 0.0);
      for_each_row_of_tower(p->segments, tower, [&](int64_t n) {
        const double d_y = as_operand(get(p->d_y, n, o), p->compute);
        load_operands(p->x, n, p->compute, x);
        for (int64_t i = 0; i < I; i++) sum[i] += d_y * x[i];
      });
      for (int64_t i = 0; i < I; i++) add(d_w, o, i, sum[i]);
    }
  }
  return 0;
}

}  // namespace mot::reference
