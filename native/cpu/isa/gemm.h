// The GEMM that grouped_gemm and linear_cross_entropy are made of.
//
// Bits: every element of C is a chain of fused multiply-adds over each kBlockDepth units of the reduction, counted from
// its start, the chains' sums added in order, then the addend. Nothing else that varies (rows of the group, place in a
// tile, number of threads, workspace) enters, so neither do block sizes, which are free to follow the shape.
#pragma once
#include "cpu/isa/pack.h"
#include "ops/types.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

static constexpr int64_t kBlockDepth = 512;  // units

// c[n] = a[n] B_t (+ addend[n]) for the rows of every segment, t its tower. Rows outside the segments are not touched.
struct RowsGemm {
  Matrix a;             // [N, K] f32 or bf16
  TowerWeights weight;  // towers x [C, K] when weight_transposed (B_t = weight^T), else towers x [K, C]; f32
  bool weight_transposed;
  const float* addend;  // [N, C], may be c; nullptr: none
  int64_t addend_stride;
  Matrix c;  // [N, C] f32 or bf16
  Segments segments;
  DType compute;
};

// c_t += a^T b over the rows of tower t's segments, segment after segment.
struct GradientGemm {
  Matrix a;        // [N, R] f32 or bf16
  Matrix b;        // [N, C] f32 or bf16
  TowerWeights c;  // towers x [R, C] f32
  Segments segments;
  DType compute;
};

void gemm_rows(const Context& context, const RowsGemm& gemm);
void gemm_gradient(const Context& context, const GradientGemm& gemm);

// Bytes of workspace for both: reductions over up to `depth` columns and `columns` columns of C in gemm_rows, up to
// `rows` rows in gemm_gradient.
int64_t gemm_workspace(int64_t depth, int64_t columns, int64_t rows, int threads);

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
