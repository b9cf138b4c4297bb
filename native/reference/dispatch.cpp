// Contract: ops/dispatch.h.
#include "reference/reference.h"

namespace mot::reference {

int dispatch_copy(const Context*, const DispatchCopy* p) {
  for (int64_t r = 0; r < p->out.rows; r++)
    for (int64_t d = 0; d < p->out.cols; d++) set(p->out, r, d, p->row[r] < 0 ? 0 : get(p->x, p->row[r], d));
  return 0;
}

int dispatch_sum(const Context*, const DispatchSum* p) {
  if (!given(p->addend) || p->addend.data != p->out.data)
    for_each_padding_row(p->segments, p->out.rows, [&](int64_t n) { zero_row(p->out, n); });
  for_each_row(p->segments, [&](int64_t n, int64_t) {
    const int32_t* place = p->place + n * p->columns;
    for (int64_t d = 0; d < p->out.cols; d++) {
      double sum = 0;
      for (int64_t e = 0; e < p->columns; e++)
        if (place[e] >= 0) sum += get(p->x, place[e], d);
      set(p->out, n, d, given(p->addend) ? sum + get(p->addend, n, d) : sum);
    }
  });
  return 0;
}

}  // namespace mot::reference
