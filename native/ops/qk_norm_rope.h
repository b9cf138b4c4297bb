// Splits the fused projection, normalises each query and key head (QK-norm, per head, before RoPE), rotates them
// (RoPE, rotate-half: the convention of Hugging Face's Llama), and moves rows from sorted order to sequence order.
//   qkv[n] = [q heads H*E | k heads K*E | v heads K*E], sorted rows
//   norm(x)[e] = x[e] / sqrt(mean_e(x^2) + eps) * weight[tower][e]        (weights given), else x
//   rope(x)[e] = x[e] cos - x[e+E/2] sin,  rope(x)[e+E/2] = x[e+E/2] cos + x[e] sin,   e < E/2,
//                cos, sin of position[n] * theta^(-e/(E/2)), read from rope_table
//   forward:  q[q_row[n]] = rope(norm(q part)), k[kv_row[n]] = rope(norm(k part)), v[kv_row[n]] = v part
//   backward: the exact mirror: d_qkv[n] (overwritten) from d_q[q_row[n]], d_k[kv_row[n]], d_v[kv_row[n]]; reads the
//             saved qkv; adds d_q_norm and d_k_norm (rows in ascending order, then heads).
// Padding rows (in no segment) are skipped in forward; their d_qkv is zero.
#pragma once
#include "ops/types.h"

namespace mot {

struct QkNormRopeForward {
  Matrix qkv;               // [N, (H+2K)*E] f32 or bf16
  TowerWeights q_norm;      // towers x [1, E] f32; data == nullptr: no QK-norm
  TowerWeights k_norm;      // towers x [1, E] f32; nullptr exactly when q_norm is
  const int32_t* q_row;     // [N] row of q that n writes
  const int32_t* kv_row;    // [N] row of k and v (a slot of the KV cache) that n writes
  const int32_t* position;  // [N] 0 <= position < rope_positions
  const float* rope_table;  // [rope_positions, E]: E/2 cosines, then E/2 sines (double* when qkv is f64)
  int64_t rope_positions;
  int64_t heads, kv_heads, head_dim;
  Matrix q;     // [T, H*E]
  Matrix k, v;  // [S, K*E]
  Segments segments;
  double eps;
};

struct QkNormRopeBackward {
  Matrix qkv;  // saved by forward's producer
  TowerWeights q_norm, k_norm;
  const int32_t* q_row;
  const int32_t* kv_row;
  const int32_t* position;
  const float* rope_table;
  int64_t rope_positions;
  int64_t heads, kv_heads, head_dim;
  Matrix d_q;                       // [T, H*E] f32 or bf16
  Matrix d_k, d_v;                  // [S, K*E] f32 or bf16
  Matrix d_qkv;                     // [N, (H+2K)*E] f32 or bf16, overwritten
  TowerWeights d_q_norm, d_k_norm;  // towers x [1, E] f32, added to; data == nullptr without QK-norm
  Segments segments;
  double eps;
};

}  // namespace mot
