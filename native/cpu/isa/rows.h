// What the row-wise ops share: rows of either storage type, loops over columns with a masked tail, blocks of rows as
// parallel tasks. In DRAM memory limits these ops, in the caches (where a training step finds most of its rows)
// arithmetic: loops that do much of it are compiled for each storage type, the others branch.
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

template <int kCount>
struct Count {};

// The same with kCount vectors a call while there are so many: f(column, part, Count<k>) handles k vectors.
template <int kCount, class F>
static inline void for_column_groups(int64_t cols, F&& f) {
  int64_t i = 0;
  for (; i + kCount * kWidth <= cols; i += kCount * kWidth) f(i, All{}, Count<kCount>{});
  for (; i + kWidth <= cols; i += kWidth) f(i, All{}, Count<1>{});
  if (i < cols) f(i, First{cols - i}, Count<1>{});
}

// The sum of many terms: add(sum, column, All or First) returns sum plus the terms of one vector. Four sums take turns,
// so that an addition need not wait for the one before. Not unrolled: hardware prefetches best for one load that walks
// line by line.
template <class F>
static inline Vec sum_columns(int64_t cols, F&& add) {
  Vec a = zero(), b = zero(), c = zero(), d = zero();
  for_columns(cols, [&](int64_t i, auto part) {
    Vec next = add(a, i, part);
    a = b, b = c, c = d, d = next;
  });
  return (a + b) + (c + d);
}

// T: float or bf16.
template <class T>
static inline Vec load(const T* p, All) {
  return load(p);
}
template <class T>
static inline Vec load(const T* p, First part) {
  return load_n(p, part.n);
}
template <class T>
static inline void store(T* p, Vec v, All) {
  store(p, v);
}
template <class T>
static inline void store(T* p, Vec v, First part) {
  store_n(p, v, part.n);
}

// Fetches what a walk along a long array needs kElements later. On AVX2 (Zen 3) the processor's own prefetcher leaves
// up to a fifth of the speed; on AVX-512 (Zen 4) prefetching in such loops lost, see benchmarks/notes.md.
template <int64_t kElements>
static inline void fetch_ahead(const float* p) {
  if constexpr (kWidth == 8) __builtin_prefetch(p + kElements);
}

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

// Calls f with a zero of the storage type: makes a loop of its own for each type.
template <class F>
static inline void with_type(DType dtype, F&& f) {
  dtype == kBF16 ? f(bf16{}) : f(0.f);
}

template <class T>
static inline T* row_of(const Matrix& m, int64_t row, int64_t col = 0) {
  return static_cast<T*>(m.data) + row * m.stride + col;
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

// Gradients of weights that are vectors (one per tower), as sums over rows. A run is what for_runs gives for a block of
// rows; each has sums of its own in the workspace, and these are added to the gradients in the order of rows. So
// rounding errors do not grow with the number of rows, and results do not depend on threads.
static constexpr int64_t kRunSums = 256;  // runs at a time; at least kRowBlock

static inline int64_t run_sums_workspace(int64_t columns) {
  return kRunSums * columns * static_cast<int64_t>(sizeof(float));
}

// Calls work(first, last, tower, sums) for every run, in parallel. sums: one vector per gradient, one after the other,
// zero at first (nullptr for tower -1).
template <class F>
static inline void sum_over_runs(const Context* context, const Segments& segments, int64_t rows,
                                 const TowerWeights* gradients, int64_t gradient_count, F&& work) {
  const int64_t cols = gradient_count ? gradients->cols : 0, width = gradient_count * cols;
  float* sums = static_cast<float*>(context->workspace);
  int64_t tower_of[kRunSums], first_run[kRunSums];  // of a run, of a block
  for (int64_t begin = 0, end = 0; begin < rows; begin = end) {
    int64_t runs = 0, blocks = 0;
    while (end < rows && runs + kRowBlock <= kRunSums) {
      int64_t block_end = end + kRowBlock < rows ? end + kRowBlock : rows;
      first_run[blocks++] = runs;
      for_runs(segments, end, block_end, [&](int64_t, int64_t, int64_t tower) { tower_of[runs++] = tower; });
      end = block_end;
    }
    parallel_for(context->threads, blocks, [&](int64_t block, int) {
      int64_t run = first_run[block], block_begin = begin + block * kRowBlock;
      int64_t block_end = block_begin + kRowBlock < end ? block_begin + kRowBlock : end;
      for_runs(segments, block_begin, block_end, [&](int64_t first, int64_t last, int64_t tower) {
        float* sum = tower < 0 ? nullptr : sums + run * width;
        run++;
        if (sum) __builtin_memset(sum, 0, width * sizeof(float));
        work(first, last, tower, sum);
      });
    });
    const int64_t strip = 256, strips = (cols + strip - 1) / strip;
    parallel_for(context->threads, gradient_count * strips, [&](int64_t task, int) {
      const int64_t gradient = task / strips, column = task % strips * strip;
      for (int64_t run = 0; run < runs; run++) {
        if (tower_of[run] < 0) continue;
        float* to = static_cast<float*>(gradients[gradient].data[tower_of[run]]) + column;
        const float* from = sums + run * width + gradient * cols + column;
        for_columns(cols - column < strip ? cols - column : strip,
                    [&](int64_t i, auto part) { store(to + i, load(to + i, part) + load(from + i, part), part); });
      }
    });
  }
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
