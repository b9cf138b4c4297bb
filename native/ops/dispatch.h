// Rows on their way to experts and back (routing.h gives row and place). R routed rows. Each is the other's gradient.
//   copy: out[r] = x[row[r]];  zero where row[r] is -1
//   sum:  out[n] = addend[n] + sum_e x[place[n,e]]   over the columns with place >= 0, ascending, in f32; then the
//   addend
// Sum: rows in no segment are zero, or stay as they are where there is an addend and it is out.
#pragma once
#include "ops/types.h"

namespace mot {

struct DispatchCopy {
  Matrix x;            // [N, D] f32 or bf16
  const int32_t* row;  // [R], -1 <= row < N
  Matrix out;          // [R, D] f32 or bf16. May not be x
};

struct DispatchSum {
  Matrix x;              // [R, D] f32 or bf16
  const int32_t* place;  // [N, columns]
  int64_t columns;
  Matrix addend;  // [N, D] f32; data == nullptr: none. May be out
  Matrix out;     // [N, D] f32 or bf16. May not be x
  Segments segments;
};

}  // namespace mot
