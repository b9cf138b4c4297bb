// One layer: attention, then MLP, each a branch of the residual stream.
#pragma once
#include "model/engine.h"

namespace mot {

// Reads the layer's h and x, leaves those of the next layer (after the last: the residual stream in buffers.h).
void layer_forward(const Pass& pass, int64_t layer);

// Turns the gradient of the residual stream after the layer (buffers.d_h) into that before it; adds the gradients of
// the layer's weights. Reads what layer_forward of the same pass saved.
void layer_backward(const Pass& pass, int64_t layer);

}  // namespace mot
