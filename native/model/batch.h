// A batch as it comes, in sequence order.
#pragma once
#include <cstdint>

namespace mot {

// Arrays of length tokens, in sequence order; borrowed.
struct Batch {
  int64_t tokens;
  const int32_t* token;            // 0 <= token < vocab
  const int32_t* modality;         // 0 <= modality < modalities
  const int32_t* position;         // RoPE position, restarts at each document
  const int32_t* kv_start;         // first key seen
  const int32_t* kv_end;           // one past the last key seen
  const int32_t* target;           // token to predict, -1: none. May be null: no targets
  const int32_t* target_modality;  // of the token predicted; read where target >= 0

  // Continuous patches; all null (noise alone may be) where there are none. P: the config's patch_dim.
  int64_t latent_rows = 0, images = 0;
  const int32_t* patch_row = nullptr;     // [T] row of latent that takes the place of the token's embedding; -1: none
  const float* latent = nullptr;          // [latent_rows, P]
  const float* noise = nullptr;           // [latent_rows, P] given: latent is clean, and there is a diffusion loss
  const int32_t* image_of_row = nullptr;  // [latent_rows]
  const int32_t* timestep = nullptr;      // [images] of its noise
};

}  // namespace mot
