// Below and above the layers: embedding, final norm, losses, and the output head on chosen positions.
#pragma once
#include "model/engine.h"

namespace mot {

// Embedding and all layers; leaves the residual stream in buffers.h.
void forward_layers(const Pass& pass);

// All layers and the embedding, backward from the gradient of the final hidden state, which lies in buffers.d_h.
void backward_layers(const Pass& pass);

// buffers.h -> buffers.hidden.
void final_norm(const Pass& pass);

// Losses of buffers.hidden. with_gradient: leaves the gradient of the hidden state in buffers.d_h, adds the heads'.
// ce and lse of each row stay in their buffers.
Losses head_losses(const Pass& pass, const Totals& totals, bool with_gradient);

// Hidden rows of sequence positions [count], gathered into buffers.chosen; [count, D] operand. Throws
// Error("ERR_ARGUMENT"), Error("ERR_LIMIT").
Matrix choose_positions(const Pass& pass, const int32_t* positions, int64_t count);

// logits [count, V] f32 of chosen rows.
void head_logits(const Pass& pass, const Matrix& chosen, float* logits);

// Adds the head's gradient of d_logits [count, V]; returns that of the chosen rows, [count, D] f32.
Matrix head_logits_backward(const Pass& pass, const Matrix& chosen, const float* d_logits);

// Spreads gradients of chosen rows [count, D] over buffers.d_h; all other rows are zero.
void spread_gradient(const Pass& pass, const int32_t* positions, int64_t count, const float* d_chosen);

}  // namespace mot
