// The logistic function of SwiGLU and SiLU.
#pragma once
#include "cpu/isa/simd.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

// Vectors side by side: enough to keep the units busy through the long chain of steps of a sigmoid.
static constexpr int kSigmoidGroup = 4;

// x = 1 / (1 + e^-x). Bounded, so that neither e^-x nor the result leaves the range of normal numbers; NaN passes.
template <int kCount>
static inline void sigmoid(Vec (&x)[kCount]) {
  MOT_UNROLL
  for (int i = 0; i < kCount; i++) x[i] = max(set1(-86.f), min(set1(86.f), -x[i]));
  exp_in_range(x);
  MOT_UNROLL
  for (int i = 0; i < kCount; i++) x[i] = reciprocal(1.f + x[i]);
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
