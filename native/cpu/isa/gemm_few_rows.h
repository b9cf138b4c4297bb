// Products of a few rows with a weight that is read where it lies. Packing a panel first pays when many rows use it;
// for a few, reading the weight is the work: blocks of it are transposed in registers and used at once.
#pragma once
#include "cpu/isa/pack.h"

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
  // kWidth rows are kWidth streams, short ones and too many for the processor to foresee: the next rows' come now.
  for (int64_t line = round_up(k, kLine); !kPart && line < k + kStep; line += kLine) {
    MOT_UNROLL
    for (int i = 0; i < kWidth; i++) __builtin_prefetch(weight + (kWidth + i) * weight_stride + line, 0, 2);
  }
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

// tile = A B, or +=, for kRows rows of a packed tile of A and a whole panel: kTileCols rows of `weight`,
// `depth` elements each. The same chains of multiply-adds as multiply_tile, hence the same bits.
template <class Operand, int kRows>
static void multiply_few_rows(const float* a, int64_t a_stride, const float* weight, int64_t weight_stride,
                              int64_t depth, float* tile, bool add) {
  constexpr int64_t kStep = kWidth * Operand::kDepth;
  for (int v = 0; v < kTileVecs; v++, weight += kWidth * weight_stride) {
    Vec sum[kRows] = {};
    int64_t k = 0;
    for (; k + kStep <= depth; k += kStep)
      multiply_block_of_weight<Operand, kRows, false>(a, a_stride, weight, weight_stride, k, kStep, sum);
    if (k < depth)
      multiply_block_of_weight<Operand, kRows, true>(a, a_stride, weight, weight_stride, k, depth - k, sum);
    MOT_UNROLL
    for (int r = 0; r < kRows; r++) {
      float* to = tile + r * kTileCols + v * kWidth;
      store(to, add ? load(to) + sum[r] : sum[r]);
    }
  }
}

// The same for 1 to kTileRows rows.
template <class Operand>
static void multiply_few_rows(int64_t rows, const float* a, int64_t a_stride, const float* weight,
                              int64_t weight_stride, int64_t depth, float* tile, bool add) {
  static_assert(kTileRows <= 6);
  switch (rows) {
    case 1: return multiply_few_rows<Operand, 1>(a, a_stride, weight, weight_stride, depth, tile, add);
    case 2: return multiply_few_rows<Operand, 2>(a, a_stride, weight, weight_stride, depth, tile, add);
    case 3: return multiply_few_rows<Operand, 3>(a, a_stride, weight, weight_stride, depth, tile, add);
    case 4: return multiply_few_rows<Operand, 4>(a, a_stride, weight, weight_stride, depth, tile, add);
    case 5: return multiply_few_rows<Operand, 5>(a, a_stride, weight, weight_stride, depth, tile, add);
    default: return multiply_few_rows<Operand, 6>(a, a_stride, weight, weight_stride, depth, tile, add);
  }
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
