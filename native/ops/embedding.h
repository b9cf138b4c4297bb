// Token embedding.
//   forward:  out[n] = table[token[n]]           and out_copy[n] = the same in the operand dtype, if given
//   backward: d_table[token[n]] += d_out[n]      (adds; rows of one token in ascending n)
// Rows with token[n] < 0 are padding: zero out, no gradient.
#pragma once
#include "ops/types.h"

namespace mot {

struct EmbeddingForward {
  Matrix table;          // [V, D] f32
  const int32_t* token;  // [N], -1 <= token < V
  Matrix out;            // [N, D] f32
  Matrix out_copy;       // [N, D] f32 or bf16; data == nullptr: none
};

struct EmbeddingBackward {
  const int32_t* token;  // [N]
  Matrix d_out;          // [N, D] f32
  Matrix d_table;        // [V, D] f32, added to
};

}  // namespace mot
