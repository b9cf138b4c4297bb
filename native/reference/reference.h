// The reference backend: every op as plain loops, the contracts of native/ops written as code. One thread, sums in
// double, never optimised. Fast backends are compared with it; it runs whole models too.
//
// Matrices may be f32, bf16 or f64, mixed as the contracts allow. Arithmetic is always double: a value is rounded only
// where it is stored, or where the contract calls it a bf16 operand.
#pragma once
#include <cstdint>

#include "ops/op_table.h"

namespace mot::reference {

#define MOT_DECLARE_OP(function, Params) int function(const Context* context, const Params* params);
MOT_OPS(MOT_DECLARE_OP)
#undef MOT_DECLARE_OP

inline double round_to_bf16(double x) { return f32_from_bf16(bf16_from_f32(static_cast<float>(x))); }

// A value as an operand of a matrix product.
inline double as_operand(double x, DType compute) { return compute == kBF16 ? round_to_bf16(x) : x; }

inline double get(const void* data, DType dtype, int64_t i) {
  switch (dtype) {
    case kBF16: return f32_from_bf16(static_cast<const uint16_t*>(data)[i]);
    case kF64: return static_cast<const double*>(data)[i];
    default: return static_cast<const float*>(data)[i];
  }
}

inline void set(void* data, DType dtype, int64_t i, double x) {
  switch (dtype) {
    case kBF16: static_cast<uint16_t*>(data)[i] = bf16_from_f32(static_cast<float>(x)); break;
    case kF64: static_cast<double*>(data)[i] = x; break;
    default: static_cast<float*>(data)[i] = static_cast<float>(x);
  }
}

inline double get(const Matrix& m, int64_t row, int64_t col) { return get(m.data, m.dtype, row * m.stride + col); }
inline void set(const Matrix& m, int64_t row, int64_t col, double x) { set(m.data, m.dtype, row * m.stride + col, x); }
inline void add(const Matrix& m, int64_t row, int64_t col, double x) { set(m, row, col, get(m, row, col) + x); }

inline void zero_row(const Matrix& m, int64_t row) {
  for (int64_t col = 0; col < m.cols; col++) set(m, row, col, 0);
}

inline bool given(const Matrix& m) { return m.data != nullptr; }
inline bool given(const TowerWeights& w) { return w.data != nullptr; }

// The weight of one tower as a matrix.
inline Matrix tower_matrix(const TowerWeights& w, int64_t tower) {
  return {w.data[tower], w.dtype, w.rows, w.cols, w.cols};
}

// Statistics (rstd, lse, losses, rotation tables) are float*, or double* where the op's matrices are f64.
inline DType statistics_dtype(const Matrix& m) { return m.dtype == kF64 ? kF64 : kF32; }

// One row as doubles, rounded as operands of `compute`.
inline void load_operands(const Matrix& m, int64_t row, DType compute, double* out) {
  for (int64_t col = 0; col < m.cols; col++) out[col] = as_operand(get(m, row, col), compute);
}

// body(row, tower) for the rows of all segments, ascending.
template <class Body>
void for_each_row(const Segments& segments, Body body) {
  for (int64_t s = 0; s < segments.count; s++) {
    const Segment& segment = segments.data[s];
    for (int64_t row = segment.begin; row < segment.end; row++) body(row, segment.tower);
  }
}

// body(row) for the rows of one tower, ascending.
template <class Body>
void for_each_row_of_tower(const Segments& segments, int64_t tower, Body body) {
  for_each_row(segments, [&](int64_t row, int64_t t) {
    if (t == tower) body(row);
  });
}

// body(row) for the padding: rows below `rows` in no segment.
template <class Body>
void for_each_padding_row(const Segments& segments, int64_t rows, Body body) {
  int64_t row = 0;
  for (int64_t s = 0; s < segments.count; s++) {
    for (; row < segments.data[s].begin; row++) body(row);
    row = segments.data[s].end;
  }
  for (; row < rows; row++) body(row);
}

// Hands out arrays of doubles from the context's workspace.
class Scratch {
 public:
  explicit Scratch(const Context* context) : next_(static_cast<double*>(context->workspace)) {}
  double* take(int64_t count) {
    double* taken = next_;
    next_ += count;
    return taken;
  }

 private:
  double* next_;
};

}  // namespace mot::reference
