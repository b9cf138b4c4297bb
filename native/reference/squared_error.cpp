// Contract: ops/squared_error.h.
#include "reference/reference.h"

namespace mot::reference {

int squared_error(const Context*, const SquaredError* p) {
  const DType statistics = statistics_dtype(p->x);
  const auto P = static_cast<double>(p->x.cols);
  for (int64_t n = 0; n < p->x.rows; n++) {
    double sum = 0;
    for (int64_t i = 0; i < p->x.cols; i++) {
      const double difference = get(p->x, n, i) - get(p->target, n, i);
      sum += difference * difference;
      if (given(p->d_x)) set(p->d_x, n, i, get(p->row_scale, statistics, n) * 2 / P * difference);
    }
    set(p->error, statistics, n, sum / P);
  }
  return 0;
}

}  // namespace mot::reference
