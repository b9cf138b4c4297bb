// What the row-wise ops share: rows of either storage type, loops over columns with a masked tail, blocks of rows as
// parallel tasks. These ops are limited by memory, so a predictable branch on the storage type costs nothing.
#pragma once
#include "core/thread_team.h"
#include "cpu/isa/simd.h"
#include "cpu/status.h"
#include "ops/types.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

static constexpr int64_t kRowBlock = 32;  // rows of one task

// How many lanes of a vector take part: all of them (known when compiling), or the first n.
struct All {};
struct First {
  int64_t n;
};

// Calls f(column, All or First) for vectors of columns 0 .. cols.
template <class F>
static inline void for_columns(int64_t cols, F&& f) {
  int64_t i = 0;
  for (; i + kWidth <= cols; i += kWidth) f(i, All{});
  if (i < cols) f(i, First{cols - i});
}

static inline Vec load(const float* p, All) { return load(p); }
static inline Vec load(const float* p, First part) { return load_n(p, part.n); }
static inline void store(float* p, Vec v, All) { store(p, v); }
static inline void store(float* p, Vec v, First part) { store_n(p, v, part.n); }

// A row, or a part of one, of an f32 or bf16 matrix.
struct Row {
  void* data;
  bool is_bf16;
};

static inline bool given(const Matrix& m) { return m.data != nullptr; }
static inline bool is_f32_or_bf16(const Matrix& m) { return m.dtype == kF32 || m.dtype == kBF16; }

static inline Row row_of(const Matrix& m, int64_t row, int64_t col = 0) {
  int64_t offset = row * m.stride + col;
  if (m.dtype == kBF16) return {static_cast<bf16*>(m.data) + offset, true};
  return {static_cast<float*>(m.data) + offset, false};
}

static inline const float* f32_of(const TowerWeights& w, int64_t tower) {
  return static_cast<const float*>(w.data[tower]);
}

static inline Vec load(Row row, int64_t i, All) {
  return row.is_bf16 ? load(static_cast<const bf16*>(row.data) + i) : load(static_cast<const float*>(row.data) + i);
}

static inline Vec load(Row row, int64_t i, First part) {
  return row.is_bf16 ? load_n(static_cast<const bf16*>(row.data) + i, part.n)
                     : load_n(static_cast<const float*>(row.data) + i, part.n);
}

static inline void store(Row row, int64_t i, Vec v, All) {
  if (row.is_bf16) return store(static_cast<bf16*>(row.data) + i, v);
  store(static_cast<float*>(row.data) + i, v);
}

static inline void store(Row row, int64_t i, Vec v, First part) {
  if (row.is_bf16) return store_n(static_cast<bf16*>(row.data) + i, v, part.n);
  store_n(static_cast<float*>(row.data) + i, v, part.n);
}

static inline void zero_rows(const Matrix& m, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; n++) __builtin_memset(row_of(m, n).data, 0, m.cols * dtype_size(m.dtype));
}

// Calls f(begin, end) for blocks of rows, in parallel.
template <class F>
static inline void parallel_rows(const Context* context, int64_t rows, F&& f) {
  parallel_for(context->threads, (rows + kRowBlock - 1) / kRowBlock, [&](int64_t task, int) {
    int64_t begin = task * kRowBlock, end = begin + kRowBlock;
    f(begin, end < rows ? end : rows);
  });
}

// Calls f(first, last, tower) for the runs of equal tower that make up rows [begin, end), in order; tower is -1 where
// the rows are padding.
template <class F>
static inline void for_runs(const Segments& segments, int64_t begin, int64_t end, F&& f) {
  int64_t row = begin;
  for (int64_t i = 0; i < segments.count && row < end; i++) {
    const Segment& s = segments.data[i];
    if (s.end <= row) continue;
    int64_t first = s.begin < end ? s.begin : end, last = s.end < end ? s.end : end;
    if (row < first) f(row, first, int64_t{-1});
    if (first < row) first = row;
    if (first < last) f(first, last, int64_t{s.tower});
    row = last > first ? last : first;
  }
  if (row < end) f(row, end, int64_t{-1});
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
