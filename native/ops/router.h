// What a router makes of its logits: the probability of each expert of one tower for each of the tower's rows. The
// logits are a grouped GEMM, x W_r^T with W_r [C, D]. C experts, R routed rows (routing.h).
//   forward:  probs[n,e] = softmax_e(logits[n,e])
//   backward: g[n,e] = d_gate[place[n,e]] (0 where place is -1) + balance_scale * d_balance[e]
//             d_logits[n,e] = probs[n,e] * (g[n,e] - sum_e probs[n,e] g[n,e])                      (overwrites)
// The choice of rows has no gradient. Columns from C on and rows in no segment are not touched. All f32, whatever the
// compute dtype; f64 in gradient checks.
#pragma once
#include "ops/types.h"

namespace mot {

struct RouterForward {
  Matrix logits;  // [N, C]
  Matrix probs;   // [N, C]. May be logits
  Segments segments;
};

struct RouterBackward {
  Matrix probs;          // [N, C]
  const int32_t* place;  // [N, place_stride], of which the first C columns
  int64_t place_stride;
  const float* d_gate;     // [R] (double* when probs is f64)
  const float* d_balance;  // [C] (double* when probs is f64); nullptr: none
  double balance_scale;
  Matrix d_logits;  // [N, C]
  Segments segments;
};

}  // namespace mot
