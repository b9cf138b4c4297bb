// RMSNorm with one weight vector per tower, and the residual add that follows it in branch-output placement.
//   rstd[n] = 1 / sqrt(mean_d(x[n,d]^2) + eps)
//   norm[n,d] = x[n,d] * rstd[n] * weight[tower(n)][d]
//   forward:  out = norm (+ residual);  out_copy = out in the operand dtype, if given
//   backward: with g = d_out * weight and c = mean_d(g * x) * rstd^2:
//             d_x[n,d] = rstd[n] * (g[n,d] - x[n,d] * c)     (overwrites, or adds when accumulate_d_x)
//             d_weight[tower][d] += sum over the tower's rows of d_out[n,d] * x[n,d] * rstd[n]   (adds)
// Statistics and sums are f32 or wider whatever the dtype of x. Padding rows of every output are zero.
#pragma once
#include "ops/types.h"

namespace mot {

struct RmsNormForward {
  Matrix x;             // [N, D] f32 or bf16
  TowerWeights weight;  // towers x [1, D] f32
  Matrix residual;      // [N, D] f32, added to the result; data == nullptr: none. May be `out`
  Matrix out;           // [N, D] f32 or bf16. May not be x
  Matrix out_copy;      // [N, D] f32 or bf16; data == nullptr: none
  float* rstd;          // [N] (double* when x is f64)
  Segments segments;
  double eps;
};

struct RmsNormBackward {
  Matrix x;             // [N, D] as in forward
  TowerWeights weight;  // towers x [1, D] f32
  const float* rstd;    // [N] from forward (const double* when x is f64)
  Matrix d_out;         // [N, D] f32 (or bf16)
  Matrix d_x;           // [N, D] f32 or bf16. May be d_out unless accumulate_d_x
  int32_t accumulate_d_x;
  TowerWeights d_weight;  // towers x [1, D] f32, added to
  Segments segments;
};

}  // namespace mot
