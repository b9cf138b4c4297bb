// Mean squared error of every row, and its gradient.
//   error[n] = mean_p (x[n,p] - target[n,p])^2
//   gradient of  sum_n row_scale[n] * error[n]:  d_x[n,p] = row_scale[n] * 2/P * (x[n,p] - target[n,p])   (overwritten)
#pragma once
#include "ops/types.h"

namespace mot {

struct SquaredError {
  Matrix x;                // [N, P] f32
  Matrix target;           // [N, P] f32
  const float* row_scale;  // [N] (double* when x is f64); unused without a gradient
  float* error;            // [N] (double* when x is f64)
  Matrix d_x;              // [N, P] f32; data == nullptr: errors only. May be x
};

}  // namespace mot
