// Attention over intervals: query t sees the keys kv_start[t] <= j < kv_end[t]. Both arrays are non-decreasing, so the
// query tile [a, b) needs exactly the keys [kv_start[a], kv_end[b-1]), and a key tile inside [kv_start[b-1], kv_end[a])
// needs no mask arithmetic. No mask and no [T, S] tensor exists. Head h reads key/value head h / (H / K).
//   s[t,j] = scale * q[t] . k[j],  p = softmax_j(s) over the interval,  out[out_row[t]] = sum_j p[t,j] v[j]
//   lse[h,t] = log sum_j exp(s[t,j])
//   backward recomputes p = exp(s - lse), with delta[t] = d_out[t] . out[t]:
//     d_v[j] = sum_t p d_out[t],  d_s = p * (d_out[t] . v[j] - delta[t]),
//     d_q[t] = scale * sum_j d_s k[j],  d_k[j] = scale * sum_t d_s q[t]        (all overwritten)
// Rows of d_k and d_v that no query sees are zero. Queries with an empty interval (padding: kv_start == kv_end) give
// zero output, lse = 0, and no gradient. bf16: q, k, v, out and d_out are bf16; p and d_s are rounded to bf16 as matmul
// operands; softmax, sums and lse are f32.
#pragma once
#include "ops/types.h"

namespace mot {

struct AttentionForward {
  Matrix q;                 // [T, H*E]
  Matrix k, v;              // [S, K*E]
  const int32_t* kv_start;  // [T]
  const int32_t* kv_end;    // [T]
  const int32_t* out_row;   // [T] row of out that query t writes; -1: padding, writes nothing
  int64_t heads, kv_heads, head_dim;
  double scale;
  Matrix out;  // [N, H*E], sorted rows; same dtype as q
  float* lse;  // [H, T] (double* when q is f64); nullptr: not wanted
};

struct AttentionBackward {
  Matrix q, k, v;
  const int32_t* kv_start;
  const int32_t* kv_end;
  const int32_t* out_row;
  int64_t heads, kv_heads, head_dim;
  double scale;
  Matrix out;        // [N, H*E] from forward
  const float* lse;  // [H, T] from forward
  Matrix d_out;      // [N, H*E], sorted rows
  Matrix d_q;        // [T, H*E] f32 or bf16
  Matrix d_k, d_v;   // [S, K*E] f32 or bf16
};

}  // namespace mot
