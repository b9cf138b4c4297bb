// Copies blocks of matrices into the layouts that the GEMM tile reads, converting to the operand's units.
//
// A, tile rows: by rows     [kTileRows][stride] units, a row's reduction is contiguous; or
//               by columns  [depth][kTileRows] units, one stream for the tile to read.
// B, a panel:   [depth][kTileCols] units.
#pragma once
#include "cpu/isa/operand.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

// The tile of C whose sums stay in registers.
static constexpr int kTileVecs = kWidth == 16 ? 4 : 2;
static constexpr int kTileRows = kWidth == 4 ? 4 : 6;
static constexpr int kTileCols = kTileVecs * kWidth;

static constexpr int64_t kLine = 16;  // floats of a cache line

// How A lies where the source's rows are its rows. By columns, products on AVX2 (Zen 3) take 2 % less time, transposing
// included. On AVX-512, where six rows are no square block to transpose, that has not been measured.
static constexpr bool kAByRows = kWidth == 16;

static constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
static inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }

// Rows [0, rows) of `source`, `depth` elements each, to tiles of rows with the given stride in units, a multiple of
// kWidth. The last tile's missing rows are zero.
template <class Operand, class T>
static void pack_a_rows(const T* source, int64_t source_stride, int64_t rows, int64_t depth, float* out,
                        int64_t out_stride) {
  for (int64_t i = 0; i < round_up(rows, kTileRows); i++, out += out_stride) {
    const T* row = source + i * source_stride;
    int64_t elements = i < rows ? depth : 0;
    int64_t units = 0;
    for (int64_t k = 0; k < depth; k += kWidth * Operand::kDepth, units += kWidth)
      store(out + units, elements ? Operand::load_row(row + k, elements - k) : zero());
  }
}

// The same to tiles by columns, which follow each other. Writes up to kWidth floats beyond the last.
template <class Operand, class T>
static void pack_a_transposed(const T* source, int64_t source_stride, int64_t rows, int64_t depth, float* out) {
  const int64_t units = ceil_div(depth, Operand::kDepth);
  for (int64_t i = 0; i < rows; i += kTileRows, source += kTileRows * source_stride) {
    for (int64_t u = 0; u < units; u += kWidth) {
      const int64_t k = u * Operand::kDepth, left = min_of(units - u, kWidth);
      Vec block[kWidth];
      MOT_UNROLL
      for (int r = 0; r < kWidth; r++) {
        bool exists = r < kTileRows && i + r < rows;
        block[r] = exists ? Operand::load_row(source + r * source_stride + k, depth - k) : zero();
      }
      transpose(block);
      // Lanes beyond the tile's rows are overwritten by the next store.
      if (left == kWidth) {
        MOT_UNROLL
        for (int j = 0; j < kWidth; j++) store(out + j * kTileRows, block[j]);
      } else {
        for (int64_t j = 0; j < left; j++) store(out + j * kTileRows, block[j]);
      }
      out += left * kTileRows;
    }
  }
}

// Columns [0, rows) of `source`, whose rows are `depth` steps of the reduction, to tiles by columns, out_stride floats
// apart. The last tile's missing columns are zero.
template <class Operand, class T>
static void pack_a_columns(const T* source, int64_t source_stride, int64_t rows, int64_t depth, float* out,
                           int64_t out_stride) {
  // A store of a whole vector also writes lanes that the next steps of its tile overwrite, if there are so many.
  constexpr int64_t kSpill = ceil_div(kWidth - kTileRows, kTileRows);
  // A few steps of all tiles at a time: a line of the source holds parts of several tiles, and its rows may all fall
  // into the same few sets of the cache.
  constexpr int64_t kSteps = 8;
  const int64_t units = ceil_div(depth, Operand::kDepth);
  for (int64_t first = 0; first < units; first += kSteps) {
    const int64_t end = min_of(first + kSteps, units);
    float* tile = out + first * kTileRows;
    for (int64_t i = 0; i < rows; i += kTileRows, tile += out_stride) {
      float* to = tile;
      for (int64_t k = first; k < end; k++, to += kTileRows) {
        const T* p = source + k * Operand::kDepth * source_stride + i;
        const T* q = k * Operand::kDepth + 1 < depth ? p + source_stride : nullptr;
        Vec unit = Operand::load_columns(p, q, rows - i);
        if (k + kSpill < units)
          store(to, unit);
        else
          store_n(to, unit, kTileRows);
      }
    }
  }
}

// Panel from a source whose rows are C's columns (a weight [out, in] in the forward direction): `columns` rows of
// `depth` elements.
template <class Operand>
static void pack_b_rows(const float* source, int64_t source_stride, int64_t columns, int64_t depth, float* out) {
  int64_t units = ceil_div(depth, Operand::kDepth);
  for (int64_t u = 0; u < units; u += kWidth) {
    int64_t k = u * Operand::kDepth, left = min_of(units - u, kWidth);
    for (int group = 0; group < kTileVecs; group++) {
      Vec block[kWidth];
      for (int i = 0; i < kWidth; i++) {
        int64_t column = group * kWidth + i;
        block[i] = column < columns ? Operand::load_row(source + column * source_stride + k, depth - k) : zero();
      }
      transpose(block);
      float* to = out + u * kTileCols + group * kWidth;
      if (left == kWidth) {
        MOT_UNROLL
        for (int j = 0; j < kWidth; j++) store(to + j * kTileCols, block[j]);
      } else {
        for (int64_t j = 0; j < left; j++) store(to + j * kTileCols, block[j]);
      }
    }
  }
}

// Panel from a source whose rows run along the reduction: `depth` rows of `columns` elements.
template <class Operand, class T>
static void pack_b_columns(const T* source, int64_t source_stride, int64_t columns, int64_t depth, float* out) {
  for (int64_t k = 0; k < depth; k += Operand::kDepth, out += kTileCols) {
    const T* p = source + k * source_stride;
    const T* q = k + 1 < depth ? p + source_stride : nullptr;
    MOT_UNROLL
    for (int v = 0; v < kTileVecs; v++) {
      int64_t first = v * kWidth, left = columns - first;
      store(out + first, left > 0 ? Operand::load_columns(p + first, q ? q + first : nullptr, left) : zero());
    }
  }
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
