// The tiles that attention is made of, forward and backward.
//
// A task keeps a few blocks of `lanes` and walks tiles of `rows`. Lanes are queries (forward, d_q) or keys (d_k, d_v),
// rows are the other side. Lanes lie across vectors, [units of E][kLanes], packed once a task; rows are broadcast one
// element at a time. So softmax statistics of queries are vectors without horizontal reductions, results [E][kLanes]
// are rescaled lane by lane, and rows need no transposing. The two kinds of product:
//   products:    x[r][lane] = sum_e row[r][e] * lanes[e][lane]             (scores, d_p)
//   accumulate:  y[e][lane] += sum_r row[r][e] * x[r][lane]                (out, d_q, d_k, d_v)
#pragma once
#include "cpu/isa/operand.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {
namespace attention {

// Sums of kGroup rows (or elements e) by up to kVecs vectors stay in registers. kGroup divides every head width.
static constexpr int kGroup = kWidth == 16 ? 8 : 4;
static constexpr int kVecs = kWidth == 4 ? 2 : 3;
static constexpr int kLanes = kVecs * kWidth;
// Blocks of lanes of one task: more of them pack a tile of rows less often, but make fewer tasks. Blocks of AVX2 are
// half as wide as those of AVX-512, which gains nothing from more than two.
static constexpr int kBlocks = kWidth == 8 ? 8 : 2;
static constexpr int kTaskLanes = kBlocks * kLanes;
static constexpr int kRows = 64;  // rows of a tile
static constexpr int64_t kMaxHeadDim = 256;

static inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

// Blocks that hold `lanes` lanes.
static inline int blocks_of(int64_t lanes) { return static_cast<int>((lanes + kLanes - 1) / kLanes); }

template <int kCount>
using Sums = Vec[kGroup][kCount];

// The scratch of one worker, in floats, of which tasks take arrays in any order.
static constexpr int64_t kLaneArrays = 4, kScoreArrays = 4, kRowArrays = 4;

static inline int64_t scratch_floats(int64_t head_dim) {
  const int64_t width = round_up(head_dim, kWidth);
  return kLaneArrays * head_dim * kTaskLanes + kScoreArrays * kRows * kLanes +
         (kRowArrays * kRows + kTaskLanes + kGroup) * width;
}

class Scratch {
 public:
  Scratch(float* begin, int64_t head_dim) : next_(begin), E_(head_dim) {}
  float* lanes() { return take(E_ * kTaskLanes); }  // [kBlocks][E or its units][kLanes]
  float* scores() { return take(kRows * kLanes); }  // [kRows or its units][kLanes]
  float* rows(int64_t count = kRows) { return take(count * round_up(E_, kWidth)); }

 private:
  float* take(int64_t floats) {
    float* taken = next_;
    next_ += floats;
    return taken;
  }
  float* next_;
  int64_t E_;
};

// Calls f(t_begin, t_end, j_begin, j_end) for the documents in order: queries that see keys of [j_begin, j_end), which
// no other query sees. Tiles begin where documents do, so that bits do not depend on where a document lies. Successive
// queries that see nothing make one document.
template <class F>
static void for_documents(const int32_t* kv_start, const int32_t* kv_end, int64_t queries, F&& f) {
  for (int64_t begin = 0, end; begin < queries; begin = end) {
    const bool empty = kv_start[begin] == kv_end[begin];
    for (end = begin + 1; end < queries; end++)
      if (empty ? kv_start[end] < kv_end[end] : kv_start[end] >= kv_end[end - 1]) break;
    f(begin, end, int64_t{kv_start[begin]}, int64_t{kv_end[end - 1]});
  }
}

// Rows [begin, end) of a tile, multiples of kGroup, which the lanes of the vectors [vec, vec + vecs) of a block see.
struct Run {
  int begin, end, vec, vecs;
};

// Calls f with the number of vectors as a constant.
template <int kCount>
struct Vecs {
  static constexpr int kValue = kCount;
};
template <class F>
[[gnu::always_inline]] static inline void with_vecs(int count, F&& f) {
  if (count == 1) return f(Vecs<1>{});
  if (count == 2) return f(Vecs<2>{});
  if constexpr (kVecs == 3) f(Vecs<3>{});
}

// Which lanes of the task see row r of the tile: first[r] <= lane < last[r]. Both intervals of queries over keys and of
// keys over queries are contiguous, since kv_start and kv_end are non-decreasing.
struct Visible {
  int64_t first[kRows], last[kRows];

  bool any(int64_t r) const { return first[r] < last[r]; }

  // What is visible of a block, as runs in order: returns their number.
  int runs(int block, Run (&out)[kRows / kGroup]) const {
    const int64_t begin = block * kLanes, end = begin + kLanes;
    int count = 0;
    for (int r = 0; r < kRows; r += kGroup) {
      int64_t low = end, high = begin;
      for (int i = r; i < r + kGroup; i++) {
        if (!any(i)) continue;
        low = min_of(low, first[i]), high = max_of(high, last[i]);
      }
      low = max_of(low, begin), high = min_of(high, end);
      if (low >= high) continue;
      const int vec = static_cast<int>(low - begin) / kWidth;
      const int vecs = static_cast<int>(high - begin + kWidth - 1) / kWidth - vec;
      if (count && out[count - 1].end == r && out[count - 1].vec == vec && out[count - 1].vecs == vecs) {
        out[count - 1].end += kGroup;
      } else {
        out[count++] = {r, r + kGroup, vec, vecs};
      }
    }
    return count;
  }

  // Whether all lanes of the run see all rows of the group that begins with row r.
  bool whole(int block, const Run& run, int r) const {
    const int64_t begin = block * kLanes + run.vec * kWidth, end = begin + run.vecs * kWidth;
    bool all = true;
    for (int i = r; i < r + kGroup; i++) all &= first[i] <= begin && last[i] >= end;
    return all;
  }

  Mask mask(int block, int r, int vec) const {
    const int64_t lane = block * kLanes + vec * kWidth;
    return mask_range(first[r] - lane, last[r] - lane);
  }
};

static constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;

// 2^x for x up to 1 to about 1.5e-7 of its value; no less than 2^-100, which is nothing beside the largest probability
// and keeps subnormal numbers, slow operands, away. NaN passes.
static inline Vec exp2(Vec x) {
  // Adding 1.5 * 2^23 + 127 rounds to an integer, which then stands in the low bits as an exponent.
  const Vec shift = set1(0x1.8p23f + 127.f);
  const Vec bounded = max(set1(-100.f), x), shifted = bounded + shift;
  const Vec r = bounded - (shifted - shift);
  Vec p = set1(0.00132647273f);
  p = fma(p, r, set1(0.00967151299f));
  p = fma(p, r, set1(0.0555073358f));
  p = fma(p, r, set1(0.240222424f));
  p = fma(p, r, set1(0.693147004f));
  return fma(p, r, set1(1.f)) * from_bits(bits(shifted) << 23);
}

// Rows and lanes of T in memory: source(i) is a pointer to E elements, or nullptr for zeros.

// Rows of one head lie so far apart that the processor foresees none of them and keeps few. kLevel: 2 into L2, 3 into
// L1.
template <int kLevel, class T>
[[gnu::always_inline]] static inline void prefetch_row(const T* row, int64_t E) {
  for (int64_t e = 0; e < E; e += static_cast<int64_t>(64 / sizeof(T))) __builtin_prefetch(row + e, 0, kLevel);
}

// The rows [begin, end) of `source`, into L1.
template <class Source>
[[gnu::always_inline]] static inline void prefetch_rows(int64_t begin, int64_t end, int64_t E, Source source) {
  for (int64_t i = begin; i < end; i++)
    if (auto row = source(i)) prefetch_row<3>(row, E);
}

// Rows that packing prefetches ahead of the one it reads.
static constexpr int64_t kRowsAhead = 8;

// [blocks][units][kLanes]; up to a whole vector, lanes from `count` on are zero.
template <class Operand, class Source>
static void pack_lanes(int64_t count, int64_t E, float* out, Source source) {
  const int64_t units = E / Operand::kDepth;
  prefetch_rows(0, min_of(kRowsAhead, count), E, source);
  for (int64_t lane = 0; lane < count; lane += kWidth) {
    prefetch_rows(lane + kRowsAhead, min_of(lane + kRowsAhead + kWidth, count), E, source);
    float* to = out + lane / kLanes * units * kLanes + lane % kLanes;
    for (int64_t u = 0; u < units; u += kWidth) {
      Vec block[kWidth];
      for (int64_t i = 0; i < kWidth; i++) {
        auto from = lane + i < count ? source(lane + i) : nullptr;
        int64_t e = u * Operand::kDepth;
        block[i] = from ? Operand::load_row(from + e, E - e) : zero();
      }
      transpose(block);
      for (int64_t i = 0; i < min_of(kWidth, units - u); i++) store(to + (u + i) * kLanes, block[i]);
    }
  }
}

// For `products`: [rows][row_stride], a row's reduction contiguous.
template <class Operand>
static inline int64_t row_stride(int64_t E) {
  return round_up(E / Operand::kDepth, kWidth);
}

template <class Operand, class Source>
static void pack_rows(int64_t rows, int64_t E, float* out, Source source) {
  const int64_t stride = row_stride<Operand>(E);
  for (int64_t r = 0; r < rows; r++) {
    auto from = source(r);
    prefetch_rows(r + kRowsAhead, min_of(r + kRowsAhead + 1, rows), E, source);
    for (int64_t u = 0; u < stride; u += kWidth) {
      int64_t e = u * Operand::kDepth;
      store(out + r * stride + u, from ? Operand::load_row(from + e, E - e) : zero());
    }
  }
}

// For `accumulate`: [units of rows][column_stride], rows run along the reduction; `rows` is even.
static inline int64_t column_stride(int64_t E) { return round_up(E, kWidth); }

template <class Operand, class Source>
static void pack_columns(int64_t rows, int64_t E, float* out, Source source) {
  if constexpr (Operand::kDepth == 1) {
    pack_rows<Operand>(rows, E, out, source);
  } else {
    const int64_t stride = column_stride(E);
    for (int64_t r = 0; r < rows; r += 2) {
      auto p = source(r), q = source(r + 1);
      for (int64_t e = 0; e < stride; e += kWidth) {
        Vec units = zero();
        if (p) units = Operand::load_columns(p + e, q ? q + e : nullptr, E - e);
        // Unit by unit, the lower half is row r: a row of zeros below a real one.
        if (!p && q) units = from_bits(bits(Operand::load_columns(q + e, decltype(q){}, E - e)) << 16);
        store(out + r / 2 * stride + e, units);
      }
    }
  }
}

// Both packings of the same rows. With one step a unit they are the same: returns where the columns are.
template <class Operand, class Source>
static const float* pack_rows_and_columns(int64_t E, float* rows, float* columns, Source source) {
  pack_rows<Operand>(kRows, E, rows, source);
  if constexpr (Operand::kDepth == 1) return rows;
  pack_columns<Operand>(kRows, E, columns, source);
  return columns;
}

// sums[i][lane] = sum_e rows[i][e] * lanes[e][lane] for the kGroup rows from `rows` on.
template <class Operand, int kCount>
[[gnu::always_inline]] static inline void products(const float* rows, const float* lanes, int64_t E,
                                                   Sums<kCount>& sums) {
  const int64_t units = E / Operand::kDepth, stride = row_stride<Operand>(E);
  MOT_UNROLL
  for (int i = 0; i < kGroup; i++) MOT_UNROLL
  for (int v = 0; v < kCount; v++) sums[i][v] = zero();
  for (int64_t u = 0; u < units; u++) {
    Vec b[kCount];
    MOT_UNROLL
    for (int v = 0; v < kCount; v++) b[v] = load(lanes + u * kLanes + v * kWidth);
    MOT_UNROLL
    for (int i = 0; i < kGroup; i++) {
      Vec a = broadcast_unit(rows + i * stride + u);
      MOT_UNROLL
      for (int v = 0; v < kCount; v++) sums[i][v] = Operand::multiply_add(sums[i][v], a, b[v]);
    }
  }
}

// y[e][lane] = y[e][lane] * factor[lane] + sum_r columns[r][e] * x[r][lane] over rows and lanes of the run, whose
// `vecs` is kCount. factor == nullptr: 1.
template <class Operand, int kCount>
static void accumulate_run(const float* columns, const float* x, const Run& run, int64_t E, const Vec* factor,
                           float* y) {
  const int64_t stride = column_stride(E);
  x += run.vec * kWidth, y += run.vec * kWidth;
  for (int64_t e = 0; e < E; e += kGroup) {
    Sums<kCount> sums;
    MOT_UNROLL
    for (int i = 0; i < kGroup; i++) MOT_UNROLL
    for (int v = 0; v < kCount; v++) {
      sums[i][v] = load(y + (e + i) * kLanes + v * kWidth);
      if (factor) sums[i][v] *= factor[v];
    }
    for (int64_t u = run.begin / Operand::kDepth; u < run.end / Operand::kDepth; u++) {
      Vec b[kCount];
      MOT_UNROLL
      for (int v = 0; v < kCount; v++) b[v] = load(x + u * kLanes + v * kWidth);
      MOT_UNROLL
      for (int i = 0; i < kGroup; i++) {
        Vec a = broadcast_unit(columns + u * stride + e + i);
        MOT_UNROLL
        for (int v = 0; v < kCount; v++) sums[i][v] = Operand::multiply_add(sums[i][v], a, b[v]);
      }
    }
    MOT_UNROLL
    for (int i = 0; i < kGroup; i++) MOT_UNROLL
    for (int v = 0; v < kCount; v++) store(y + (e + i) * kLanes + v * kWidth, sums[i][v]);
  }
}

// The factor may be given for runs of kVecs vectors.
template <class Operand>
static inline void accumulate(const float* columns, const float* x, const Run& run, int64_t E, const Vec* factor,
                              float* y) {
  with_vecs(run.vecs, [&](auto n) { accumulate_run<Operand, decltype(n)::kValue>(columns, x, run, E, factor, y); });
}

// Bytes that the backward needs beside the scratch of workers.
int64_t backward_bytes(const OpLimits& limits);

// Units of the reduction from rows r, r+1, .. (kDepth of them) of x, given as vectors of f32.
template <class Operand>
[[gnu::always_inline]] static inline void store_units(float* x, int r, int vec, const Vec* steps) {
  store(x + r / Operand::kDepth * kLanes + vec * kWidth, Operand::units(steps[0], steps[Operand::kDepth - 1]));
}

// Writes the lanes [0, count) of y [blocks][E][kLanes], times factor, as rows: E elements at target(lane), which may be
// {nullptr}: not wanted.
template <class Target>
static void unpack_lanes(const float* y, int64_t count, int64_t E, Vec factor, Target target) {
  for (int64_t lane = 0; lane < count; lane += kWidth) {
    const float* from = y + lane / kLanes * E * kLanes + lane % kLanes;
    for (int64_t e = 0; e < E; e += kWidth) {
      Vec block[kWidth];
      for (int64_t i = 0; i < kWidth; i++) block[i] = e + i < E ? load(from + (e + i) * kLanes) * factor : zero();
      transpose(block);
      for (int64_t i = 0; i < min_of(kWidth, count - lane); i++) {
        Row to = target(lane + i);
        if (!to.data) continue;
        if (E - e >= kWidth)
          store(to, e, block[i], All{});  // several times as fast as a masked one
        else
          store(to, e, block[i], First{E - e});
      }
    }
  }
}

}  // namespace attention
}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
