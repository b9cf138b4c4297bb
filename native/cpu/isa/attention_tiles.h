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

// Sums of kGroup rows (or elements e) by kLanes lanes stay in registers. kGroup divides every head width.
static constexpr int kGroup = kWidth == 16 ? 8 : 4;
static constexpr int kVecs = kWidth == 4 ? 2 : 3;
static constexpr int kLanes = kVecs * kWidth;
static constexpr int kBlocks = 2;  // blocks of lanes of one task
static constexpr int kTaskLanes = kBlocks * kLanes;
static constexpr int kRows = 64;  // rows of a tile
static constexpr int64_t kMaxHeadDim = 256;

static inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

using Sums = Vec[kGroup][kVecs];

// The scratch of one worker, in floats, of which tasks take arrays in any order.
static constexpr int64_t kLaneArrays = 4, kScoreArrays = 3, kRowArrays = 4;

static inline int64_t scratch_floats(int64_t head_dim) {
  return kLaneArrays * head_dim * kTaskLanes + kScoreArrays * kRows * kLanes +
         kRowArrays * kRows * round_up(head_dim, kWidth);
}

class Scratch {
 public:
  Scratch(float* begin, int64_t head_dim) : next_(begin), E_(head_dim) {}
  float* lanes() { return take(E_ * kTaskLanes); }  // [kBlocks][E or its units][kLanes]
  float* scores() { return take(kRows * kLanes); }  // [kRows or its units][kLanes]
  float* rows() { return take(kRows * round_up(E_, kWidth)); }

 private:
  float* take(int64_t floats) {
    float* taken = next_;
    next_ += floats;
    return taken;
  }
  float* next_;
  int64_t E_;
};

// Which lanes of the task see row r of the tile: first[r] <= lane < last[r]. Both intervals of queries over keys and of
// keys over queries are contiguous, since kv_start and kv_end are non-decreasing.
struct Visible {
  int64_t first[kRows], last[kRows];

  bool any(int r) const { return first[r] < last[r]; }

  // The rows [begin, end) that lanes of a block see, in whole groups.
  void rows_of_block(int block, int* begin, int* end) const {
    const int64_t lane = block * kLanes;
    int b = 0, e = kRows;
    while (b < e && !(any(b) && first[b] < lane + kLanes && last[b] > lane)) b++;
    while (e > b && !(any(e - 1) && first[e - 1] < lane + kLanes && last[e - 1] > lane)) e--;
    *begin = b / kGroup * kGroup;
    *end = static_cast<int>(round_up(e, kGroup));
  }

  // Whether all lanes of the block see all rows of the group that begins with row r.
  bool whole(int block, int r) const {
    for (int i = r; i < r + kGroup; i++)
      if (first[i] > block * kLanes || last[i] < (block + 1) * kLanes) return false;
    return true;
  }

  Mask mask(int block, int r, int vec) const {
    int64_t lane = block * kLanes + vec * kWidth;
    return mask_range(first[r] - lane, last[r] - lane);
  }
};

// Rows and lanes of T in memory: source(i) is a pointer to E elements, or nullptr for zeros.

// [blocks][units][kLanes]; lanes from `count` on are zero.
template <class Operand, class Source>
static void pack_lanes(int64_t count, int64_t E, float* out, Source source) {
  const int64_t units = E / Operand::kDepth;
  for (int64_t lane = 0; lane < kTaskLanes; lane += kWidth) {
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

// For `products`: [kRows][row_stride], a row's reduction contiguous.
template <class Operand>
static inline int64_t row_stride(int64_t E) {
  return round_up(E / Operand::kDepth, kWidth);
}

template <class Operand, class Source>
static void pack_rows(int64_t E, float* out, Source source) {
  const int64_t stride = row_stride<Operand>(E);
  for (int64_t r = 0; r < kRows; r++) {
    auto from = source(r);
    for (int64_t u = 0; u < stride; u += kWidth) {
      int64_t e = u * Operand::kDepth;
      store(out + r * stride + u, from ? Operand::load_row(from + e, E - e) : zero());
    }
  }
}

// For `accumulate`: [units of kRows][column_stride], rows run along the reduction. With one step a unit that is what
// pack_rows made already. Returns where it is.
static inline int64_t column_stride(int64_t E) { return round_up(E, kWidth); }

template <class Operand, class Source>
static const float* pack_columns(int64_t E, const float* rows, float* out, Source source) {
  if constexpr (Operand::kDepth == 1) return rows;
  const int64_t stride = column_stride(E);
  for (int64_t r = 0; r < kRows; r += 2) {
    auto p = source(r), q = source(r + 1);
    for (int64_t e = 0; e < stride; e += kWidth) {
      Vec units = zero();
      if (p) units = Operand::load_columns(p + e, q ? q + e : nullptr, E - e);
      // Unit by unit, the lower half is row r: a row of zeros below a real one.
      if (!p && q) units = from_bits(bits(Operand::load_columns(q + e, decltype(q){}, E - e)) << 16);
      store(out + r / 2 * stride + e, units);
    }
  }
  return out;
}

// sums[i][lane] = sum_e rows[i][e] * lanes[e][lane] for the kGroup rows from `rows` on.
template <class Operand>
[[gnu::always_inline]] static inline void products(const float* rows, const float* lanes, int64_t E, Sums& sums) {
  const int64_t units = E / Operand::kDepth, stride = row_stride<Operand>(E);
  MOT_UNROLL
  for (int i = 0; i < kGroup; i++) MOT_UNROLL
  for (int v = 0; v < kVecs; v++) sums[i][v] = zero();
  for (int64_t u = 0; u < units; u++) {
    Vec b[kVecs];
    MOT_UNROLL
    for (int v = 0; v < kVecs; v++) b[v] = load(lanes + u * kLanes + v * kWidth);
    MOT_UNROLL
    for (int i = 0; i < kGroup; i++) {
      Vec a = broadcast_unit(rows + i * stride + u);
      MOT_UNROLL
      for (int v = 0; v < kVecs; v++) sums[i][v] = Operand::multiply_add(sums[i][v], a, b[v]);
    }
  }
}

// y[e][lane] = y[e][lane] * factor[lane] + sum_r rows[r][e] * x[r][lane] over the rows [begin, end), multiples of
// kGroup. factor == nullptr: 1.
template <class Operand>
static void accumulate(const float* columns, const float* x, int begin, int end, int64_t E, const Vec* factor,
                       float* y) {
  const int64_t stride = column_stride(E);
  for (int64_t e = 0; e < E; e += kGroup) {
    Sums sums;
    MOT_UNROLL
    for (int i = 0; i < kGroup; i++) MOT_UNROLL
    for (int v = 0; v < kVecs; v++) {
      sums[i][v] = load(y + (e + i) * kLanes + v * kWidth);
      if (factor) sums[i][v] *= factor[v];
    }
    for (int64_t u = begin / Operand::kDepth; u < end / Operand::kDepth; u++) {
      Vec b[kVecs];
      MOT_UNROLL
      for (int v = 0; v < kVecs; v++) b[v] = load(x + u * kLanes + v * kWidth);
      MOT_UNROLL
      for (int i = 0; i < kGroup; i++) {
        Vec a = broadcast_unit(columns + u * stride + e + i);
        MOT_UNROLL
        for (int v = 0; v < kVecs; v++) sums[i][v] = Operand::multiply_add(sums[i][v], a, b[v]);
      }
    }
    MOT_UNROLL
    for (int i = 0; i < kGroup; i++) MOT_UNROLL
    for (int v = 0; v < kVecs; v++) store(y + (e + i) * kLanes + v * kWidth, sums[i][v]);
  }
}

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
        if (to.data) store(to, e, block[i], First{min_of(kWidth, E - e)});
      }
    }
  }
}

}  // namespace attention
}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
