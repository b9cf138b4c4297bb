// One ragged GEMM over all towers: every segment's rows meet their own tower's weight.
//   forward: y[n] = x[n] W_t^T (+ residual[n])         t = tower of row n
//   d_x:     d_x[n] = d_y[n] W_t                        (overwrites, or adds when accumulate)
//   d_w:     d_w_t[o,i] += sum over the tower's rows of d_y[n,o] * x[n,i]     (adds, rows in ascending order)
// compute = kF32: true f32 products. compute = kBF16: operands rounded to bf16 (to nearest even), products summed in
// f32. Operands may be stored as f32 or bf16 in either mode. Padding rows of y and d_x are zero (accumulate leaves
// them). A tower without rows gets no gradient.
#pragma once
#include "ops/types.h"

namespace mot {

struct GroupedGemmForward {
  Matrix x;             // [N, I]
  TowerWeights weight;  // towers x [O, I]
  Matrix residual;      // [N, O] f32; data == nullptr: none. May be y. Stride 0: a bias, the same row for all
  Matrix y;             // [N, O] f32 or bf16. May not be x
  Segments segments;
  DType compute;
};

struct GroupedGemmDx {
  Matrix d_y;           // [N, O]
  TowerWeights weight;  // towers x [O, I]
  Matrix d_x;           // [N, I] f32 or bf16 (accumulate: f32). May not be d_y
  int32_t accumulate;
  Segments segments;
  DType compute;
};

struct GroupedGemmDw {
  Matrix d_y;        // [N, O]
  Matrix x;          // [N, I]
  TowerWeights d_w;  // towers x [O, I] f32, added to
  Segments segments;
  DType compute;
};

}  // namespace mot
