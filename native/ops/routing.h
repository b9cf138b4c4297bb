// Which rows each expert of one tower gets. The MLP of a tower with experts runs over routed rows: copies of the
// tower's rows [N], grouped by expert, so that a grouped GEMM sees experts as it sees towers. C experts, R routed rows.
//   expert choice (Zhou et al. 2022): expert e takes the `capacity` rows of highest probs[n,e]; of equal ones those
//     that come first in the sequence
//   token choice (Shazeer et al. 2017): row n goes to the top_k experts of highest probs[n,e]; of equal ones to those
//     of lower index
// Result, the same for both: the routed rows of an expert are in ascending order of n;
//   row[r] = n, gate[r] = probs[n,e], place[n,e] = r;  place[n,e] = -1 where n does not go to e, and from column C on
//   segments[e] = {begin, end, first_set + e}: the expert's routed rows; each begins at a multiple of `alignment`,
//     the first at `begin`. Routed rows from `begin` to `end` in no segment are padding: row = -1, gate = 0.
// Token choice also says how uneven it was (Fedus et al. 2021): with f_e the share of assignments that went to e and
// P_e the mean of probs[n,e]
//   balance = C * sum_e f_e P_e  (1 when even; 0 without rows),  d_balance[e] = d balance / d probs[n,e] = C f_e / rows
// Rows of place in no segment are not touched. A probability that is not a number counts as the highest.
#pragma once
#include "ops/types.h"

namespace mot {

constexpr int64_t kMaxExperts = 256;  // of a tower

struct RoutedRows {
  int32_t* row;    // [R]
  float* gate;     // [R] (double* when probs is f64)
  int32_t* place;  // [N, place_stride]
  int64_t place_stride;
  Segment* segments;   // [C]
  int64_t begin, end;  // routed rows that this tower may use
  int64_t alignment;
  int32_t first_set;  // weight set of expert 0
};

struct RoutingExpertChoice {
  Matrix probs;            // [N, C] f32
  const int32_t* seq_row;  // [N] place in the sequence
  int64_t capacity;        // at most the rows of the segments
  RoutedRows out;
  Segments segments;
};

struct RoutingTokenChoice {
  Matrix probs;      // [N, C] f32; data == nullptr: one expert, which gets every row with gate 1
  int64_t top_k;     // 1 <= top_k <= C
  double* balance;   // one value; nullptr: not wanted
  float* d_balance;  // [C] (double* when probs is f64); nullptr exactly when balance is
  RoutedRows out;
  Segments segments;
};

}  // namespace mot
