// Global attention of one layer: from the fused projection in sorted order through sequence order and back.
#pragma once
#include "model/engine.h"

namespace mot {

// The layer's qkv -> its out, both in sorted order; with a cache, keys and values stay in it.
void attend(const Pass& pass, int64_t layer);

// buffers.d_attention -> buffers.d_qkv; adds the gradients of QK-norm. Computes q, k and v again from qkv.
void attend_backward(const Pass& pass, int64_t layer);

}  // namespace mot
