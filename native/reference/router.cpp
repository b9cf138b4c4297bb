// Contract: ops/router.h.
#include <algorithm>
#include <cmath>

#include "reference/reference.h"

namespace mot::reference {

int router_forward(const Context*, const RouterForward* p) {
  const int64_t C = p->probs.cols;
  for_each_row(p->segments, [&](int64_t n, int64_t) {
    double largest = get(p->logits, n, 0), sum = 0;
    for (int64_t e = 1; e < C; e++) largest = std::max(largest, get(p->logits, n, e));
    for (int64_t e = 0; e < C; e++) sum += std::exp(get(p->logits, n, e) - largest);
    for (int64_t e = 0; e < C; e++) set(p->probs, n, e, std::exp(get(p->logits, n, e) - largest) / sum);
  });
  return 0;
}

int router_backward(const Context*, const RouterBackward* p) {
  const int64_t C = p->probs.cols;
  const DType statistics = statistics_dtype(p->probs);
  for_each_row(p->segments, [&](int64_t n, int64_t) {
    auto gradient = [&](int64_t e) {
      const int32_t place = p->place[n * p->place_stride + e];
      const double balance = p->d_balance ? p->balance_scale * get(p->d_balance, statistics, e) : 0;
      return balance + (place < 0 ? 0 : get(p->d_gate, statistics, place));
    };
    double mean = 0;
    for (int64_t e = 0; e < C; e++) mean += get(p->probs, n, e) * gradient(e);
    for (int64_t e = 0; e < C; e++) set(p->d_logits, n, e, get(p->probs, n, e) * (gradient(e) - mean));
  });
  return 0;
}

}  // namespace mot::reference
