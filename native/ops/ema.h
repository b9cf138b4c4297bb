// Exponential moving average of a flat array, in place.
//   average += (1 - decay) * (value - average)
// An element that equals its value stays as it is, bit for bit.
#pragma once
#include "ops/types.h"

namespace mot {

struct Ema {
  float* average;      // [count]
  const float* value;  // [count]. May not be average
  int64_t count;
  double decay;  // 0 to 1
};

}  // namespace mot
