// Sum of squares of a flat array, for the global gradient norm (the caller takes the root, clips by
// min(1, clip / (norm + 1e-6)), and hands the factor to adamw). Summed in f64 over fixed blocks, blocks in order.
// NaN and infinity propagate.
#pragma once
#include "ops/types.h"

namespace mot {

struct GradNorm {
  const float* grad;  // [count]
  int64_t count;
  double* sum_of_squares;  // one value, overwritten
};

}  // namespace mot
