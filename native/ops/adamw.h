// AdamW (Loshchilov & Hutter 2019), decoupled decay, in place, over ranges of flat arrays.
//   x = grad * grad_scale;  m = beta1 m + (1 - beta1) x;  v = beta2 v + (1 - beta2) x^2
//   w = w * (1 - lr * weight_decay)   where the range decays
//   w -= lr * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps)
// Elements outside all ranges are untouched. grad is read only.
#pragma once
#include "ops/types.h"

namespace mot {

struct AdamwRange {
  int64_t begin, end;  // elements
  int32_t decay;       // 1: weight decay applies
};

struct Adamw {
  float* weight;
  const float* grad;
  float* m;
  float* v;
  const AdamwRange* ranges;
  int64_t range_count;
  double lr, beta1, beta2, eps, weight_decay, grad_scale;
  int64_t step;  // from 1
};

}  // namespace mot
