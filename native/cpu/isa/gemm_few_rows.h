// Products of a few rows with a weight that is read where it lies. Packing a panel first pays when many rows use it;
// for a few, reading the weight is the work: blocks of it are transposed in registers and used at once.
#pragma once
#include "cpu/isa/gemm.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

// sum[r] += a[r] times kWidth rows of the weight, for the kWidth units of the reduction from element k on. With kPart
// the last elements of a row: that many.
template <class Operand, int kRows, bool kPart>
static inline void multiply_block_of_weight(const float* a, int64_t a_stride, const float* weight,
                                            int64_t weight_stride, int64_t k, int64_t elements, Vec (&sum)[kRows]) {
  constexpr int64_t kStep = kWidth * Operand::kDepth;
  a += k / Operand::kDepth * (kAByRows ? 1 : kTileRows);
  Vec block[kWidth];
  MOT_UNROLL
  for (int i = 0; i < kWidth; i++)
    block[i] = Operand::load_row(weight + i * weight_stride + k, kPart ? elements : kStep);
  // kWidth rows are kWidth streams, too many for the processor to foresee: as much of the next rows comes now, in
  // order.
  MOT_UNROLL
  for (int64_t line = 0; line < kStep * kWidth; line += kLine)
    __builtin_prefetch(weight + kWidth * weight_stride + k * kWidth + line, 0, 2);
  transpose(block);
  MOT_UNROLL
  for (int u = 0; u < kWidth; u++) {
    if (kPart && u * Operand::kDepth >= elements) break;
    MOT_UNROLL
    for (int r = 0; r < kRows; r++)
      sum[r] = Operand::multiply_add(sum[r], broadcast_unit(kAByRows ? a + r * a_stride + u : a + u * kTileRows + r),
                                     block[u]);
  }
}

// tile = A B for kRows rows of a packed tile of A and a whole panel: kTileCols rows of `weight`, `depth` elements each.
// The same chains of multiply-adds as multiply_tile, hence the same bits.
template <class Operand, int kRows>
static void multiply_few_rows(const float* a, int64_t a_stride, const float* weight, int64_t depth, float* tile) {
  constexpr int64_t kStep = kWidth * Operand::kDepth, kChain = kBlockDepth * Operand::kDepth;
  for (int v = 0; v < kTileVecs; v++, weight += kWidth * depth) {
    for (int64_t k = 0; k < depth;) {
      const bool first = k == 0;
      const int64_t end = min_of(k + kChain, depth);
      Vec sum[kRows] = {};
      for (; k + kStep <= end; k += kStep)
        multiply_block_of_weight<Operand, kRows, false>(a, a_stride, weight, depth, k, kStep, sum);
      if (k < end) {
        multiply_block_of_weight<Operand, kRows, true>(a, a_stride, weight, depth, k, end - k, sum);
        k = end;
      }
      MOT_UNROLL
      for (int r = 0; r < kRows; r++) {
        float* to = tile + r * kTileCols + v * kWidth;
        store(to, first ? sum[r] : load(to) + sum[r]);
      }
    }
  }
}

// The same for 1 to kTileRows rows.
template <class Operand>
static void multiply_few_rows(int64_t rows, const float* a, int64_t a_stride, const float* weight, int64_t depth,
                              float* tile) {
  static_assert(kTileRows <= 6);
  switch (rows) {
    case 1: return multiply_few_rows<Operand, 1>(a, a_stride, weight, depth, tile);
    case 2: return multiply_few_rows<Operand, 2>(a, a_stride, weight, depth, tile);
    case 3: return multiply_few_rows<Operand, 3>(a, a_stride, weight, depth, tile);
    case 4: return multiply_few_rows<Operand, 4>(a, a_stride, weight, depth, tile);
    case 5: return multiply_few_rows<Operand, 5>(a, a_stride, weight, depth, tile);
    default: return multiply_few_rows<Operand, 6>(a, a_stride, weight, depth, tile);
  }
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
