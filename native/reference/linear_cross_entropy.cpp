// Contract: ops/linear_cross_entropy.h. d_weight sums over all rows in double without a [N, V] or [V, D] buffer: it
// computes the logits a second time, vocabulary outermost.
#include <algorithm>
#include <cmath>

#include "reference/reference.h"

namespace mot::reference {
namespace {

double dot(const double* a, const double* b, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
  return sum;
}

}  // namespace

int linear_cross_entropy(const Context* context, const LinearCrossEntropy* p) {
  const int64_t N = p->x.rows, D = p->x.cols, V = p->weight.rows;
  const DType statistics = statistics_dtype(p->x);
  Scratch scratch(context);
  double* x = scratch.take(D);
  double* w = scratch.take(D);
  double* sum = scratch.take(D);
  double* logits = scratch.take(V);  // of one row

  // Gradient with respect to logit v of row n, as an operand.
  const auto d_logit = [&](int64_t n, int64_t v, double logit) {
    const double lse = get(p->lse, statistics, n);
    const double onehot = v == p->target[n] ? 1 : 0;
    const double d = (1 + 2 * p->z_loss * lse) * std::exp(logit - lse) - onehot;
    return as_operand(get(p->row_scale, statistics, n) * d, p->compute);
  };

  for (int64_t n = 0; n < N; n++) {
    if (p->target[n] < 0) {
      set(p->ce, statistics, n, 0);
      set(p->lse, statistics, n, 0);
      if (given(p->d_x)) zero_row(p->d_x, n);
      continue;
    }
    load_operands(p->x, n, p->compute, x);
    double max = -INFINITY, total = 0;
    for (int64_t v = 0; v < V; v++) {
      load_operands(p->weight, v, p->compute, w);
      logits[v] = dot(x, w, D);
      max = std::max(max, logits[v]);
    }
    for (int64_t v = 0; v < V; v++) total += std::exp(logits[v] - max);
    const double lse = max + std::log(total);
    set(p->lse, statistics, n, lse);
    set(p->ce, statistics, n, lse - logits[p->target[n]]);

    if (!given(p->d_x)) continue;
    std::fill(sum, sum + D, 0.0);
    for (int64_t v = 0; v < V; v++) {
      const double d = d_logit(n, v, logits[v]);
      load_operands(p->weight, v, p->compute, w);
      for (int64_t i = 0; i < D; i++) sum[i] += d * w[i];
    }
    for (int64_t i = 0; i < D; i++) set(p->d_x, n, i, sum[i]);
  }

  if (!given(p->d_weight)) return 0;
  for (int64_t v = 0; v < V; v++) {
    load_operands(p->weight, v, p->compute, w);
    std::fill(sum, sum + D, 0.0);
    for (int64_t n = 0; n < N; n++) {
      if (p->target[n] < 0) continue;
      load_operands(p->x, n, p->compute, x);
      const double d = d_logit(n, v, dot(x, w, D));
      for (int64_t i = 0; i < D; i++) sum[i] += d * x[i];
    }
    for (int64_t i = 0; i < D; i++) add(p->d_weight, v, i, sum[i]);
  }
  return 0;
}

}  // namespace mot::reference
