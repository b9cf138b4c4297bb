// SiLU activation of the time embedding's MLP.
//   silu(x) = x * sigmoid(x)
//   forward:  out = silu(x)
//   backward: d_x = d_out * sigmoid(x) * (1 + x * (1 - sigmoid(x)))      (overwritten)
#pragma once
#include "ops/types.h"

namespace mot {

struct SiluForward {
  Matrix x;    // [N, D] f32 or bf16
  Matrix out;  // [N, D] f32 or bf16. May not be x
};

struct SiluBackward {
  Matrix x;      // [N, D] as in forward
  Matrix d_out;  // [N, D] f32 or bf16
  Matrix d_x;    // [N, D] f32 or bf16. May be d_out
};

}  // namespace mot
