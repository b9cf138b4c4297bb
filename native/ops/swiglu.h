// SwiGLU activation over the fused gate and up projections, times a factor of each row where one is given (the gate
// of a routed row: the projection that follows is linear, so it may be applied before it).
//   gate_up[n] = [gate F | up F];  silu(x) = x * sigmoid(x)
//   forward:  out[n] = row_scale[n] * silu(gate) * up
//   backward: d = d_out * row_scale;  d_gate = d * up * (sigmoid(gate) * (1 + gate * (1 - sigmoid(gate)))),
//             d_up = d * silu(gate);  d_row_scale[n] = sum_f d_out * silu(gate) * up   (overwritten)
#pragma once
#include "ops/types.h"

namespace mot {

struct SwigluForward {
  Matrix gate_up;                    // [N, 2F] f32 or bf16
  Matrix out;                        // [N, F] f32 or bf16
  const float* row_scale = nullptr;  // [N] (double* when gate_up is f64); nullptr: 1
};

struct SwigluBackward {
  Matrix gate_up;    // [N, 2F]
  Matrix d_out;      // [N, F]
  Matrix d_gate_up;  // [N, 2F], overwritten. May be gate_up
  const float* row_scale = nullptr;
  float* d_row_scale = nullptr;  // [N]; nullptr exactly when row_scale is
};

}  // namespace mot
