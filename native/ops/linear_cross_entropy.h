// Output projection and cross-entropy in one, over chunks of rows: no [N, V] tensor exists, only [chunk, V].
//   logits = x[n] W^T;  z = logsumexp(logits);  ce[n] = z - logits[target[n]];  lse[n] = z
//   gradient of  sum_n row_scale[n] * (ce[n] + z_loss * z^2)   with respect to the logits:
//     row_scale[n] * ((1 + 2 * z_loss * z) * softmax(logits) - onehot(target))
//   d_x[n] = that W (overwritten; zero where there is no target),  d_weight += that^T x (adds, chunks in row order)
// Rows with target < 0 have no loss: ce = lse = 0. compute as in grouped_gemm.h; the logits' gradient is rounded to
// bf16 as an operand, logits and losses are f32.
#pragma once
#include "ops/types.h"

namespace mot {

struct LinearCrossEntropy {
  Matrix x;                // [N, D]
  Matrix weight;           // [V, D] f32
  const int32_t* target;   // [N], -1 <= target < V
  const float* row_scale;  // [N] (double* when x is f64); unused without gradients
  double z_loss;
  float* ce;        // [N] (double* when x is f64)
  float* lse;       // [N] (double* when x is f64)
  Matrix d_x;       // [N, D] f32; data == nullptr: losses only
  Matrix d_weight;  // [V, D] f32, added to; data == nullptr: not wanted, and so without d_x
  DType compute;
};

}  // namespace mot
