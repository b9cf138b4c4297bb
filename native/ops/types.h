// Plain types that cross the op table. No ownership, no virtual functions, no C++ library types.
//
// Shape letters of every contract: N rows (tokens in sorted order), T query positions (sequence order), S key/value
// slots, D model width, I / O inputs / outputs of a projection, H query heads, K key/value heads, E head width,
// F feed-forward width, V vocabulary, G segments.
#pragma once
#include "core/dtype.h"

namespace mot {

// Row-major matrix; row r starts at data + r * stride elements.
struct Matrix {
  void* data;
  DType dtype;
  int64_t rows, cols;
  int64_t stride;
};

// Rows [begin, end) of the sorted order use the weights of one tower. Segments are ascending and do not overlap; rows
// in none of them are padding and stay zero. Several segments may name the same tower.
struct Segment {
  int32_t begin, end;
  int32_t tower;
};

struct Segments {
  const Segment* data;
  int64_t count;
};

// One weight per tower, all of the same shape and dtype: data[tower] points at [rows, cols], contiguous. A vector of
// width D is [1, D]. For gradients the same struct names where they are added.
struct TowerWeights {
  void* const* data;
  int64_t towers;
  DType dtype;  // kF32 (master weights); kF64 in gradient checks
  int64_t rows, cols;
};

// What a call may use besides its arguments.
struct Context {
  int32_t threads;          // upper bound; results do not depend on it
  void* workspace;          // scratch, 64-byte aligned, contents undefined before and after
  int64_t workspace_bytes;  // at least OpTable::workspace_bytes of limits that cover the call
};

// Largest sizes that a context's calls may have; the workspace is planned from them before the first step.
struct OpLimits {
  int64_t rows;                       // N, T
  int64_t slots;                      // S
  int64_t in_features, out_features;  // of any one grouped GEMM
  int64_t d_model, heads, kv_heads, head_dim, vocab;
  int32_t threads;
  DType compute;  // kF32 or kBF16 (kF64: reference)
};

}  // namespace mot
