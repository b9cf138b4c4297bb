// Contract: ops/ema.h.
#include "reference/reference.h"

namespace mot::reference {

int ema(const Context*, const Ema* p) {
  for (int64_t i = 0; i < p->count; i++) {
    const double average = p->average[i];
    p->average[i] = static_cast<float>(average + (1 - p->decay) * (p->value[i] - average));
  }
  return 0;
}

}  // namespace mot::reference
