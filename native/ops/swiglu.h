// SwiGLU activation over the fused gate and up projections.
//   gate_up[n] = [gate F | up F];  silu(x) = x * sigmoid(x)
//   forward:  out = silu(gate) * up
//   backward: d_gate = d_out * up * (sigmoid(gate) * (1 + gate * (1 - sigmoid(gate)))),  d_up = d_out * silu(gate)
#pragma once
#include "ops/types.h"

namespace mot {

struct SwigluForward {
  Matrix gate_up;  // [N, 2F] f32 or bf16
  Matrix out;      // [N, F] f32 or bf16
};

struct SwigluBackward {
  Matrix gate_up;    // [N, 2F]
  Matrix d_out;      // [N, F]
  Matrix d_gate_up;  // [N, 2F], overwritten. May be gate_up
};

}  // namespace mot
