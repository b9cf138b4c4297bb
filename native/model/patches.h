// Continuous image patches: how they enter the residual stream, and the diffusion loss where they leave it. The patches
// of a pass are neighbouring rows of the sorted order; a batch without any runs the same calls on no rows.
#pragma once
#include "model/engine.h"

namespace mot {

// Puts the embedded patches into the first layer's h and x: projected, plus the time embedding of their image.
void embed_patches(const Pass& pass);

// Adds the gradients of the patch and time weights, from that of the residual stream in buffers.d_h.
void embed_patches_backward(const Pass& pass);

// Adds the diffusion loss of buffers.hidden to `losses`: the weight times the mean, over total_images (<= 0: the
// batch's own), of each image's mean squared error of its prediction. with_gradient: adds to buffers.d_h and to the
// head's gradients.
void patch_losses(const Pass& pass, int64_t total_images, bool with_gradient, Losses& losses);

// Throws Error("ERR_ARGUMENT") where a position is no patch, Error("ERR_UNSUPPORTED") for a model without diffusion.
void check_patch_positions(const Pass& pass, const int32_t* positions, int64_t count);

// Noise [count, P] f32 predicted for chosen rows.
void predict_noise(const Pass& pass, const Matrix& chosen, float* noise);

// Adds the head's gradient of d_noise [count, P]; returns that of the chosen rows, [count, D] f32.
Matrix predict_noise_backward(const Pass& pass, const Matrix& chosen, const float* d_noise);

}  // namespace mot
