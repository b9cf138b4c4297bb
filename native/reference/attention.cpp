// Contract: ops/attention.h.
#include <algorithm>
#include <cmath>

#include "reference/reference.h"

namespace mot::reference {
namespace {

double dot(const Matrix& a, int64_t a_row, int64_t a_col, const Matrix& b, int64_t b_row, int64_t b_col,
           int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += get(a, a_row, a_col + i) * get(b, b_row, b_col + i);
  return sum;
}

}  // namespace

int attention_forward(const Context* context, const AttentionForward* p) {
  const int64_t H = p->heads, E = p->head_dim, group = p->heads / p->kv_heads, T = p->q.rows;
  const DType statistics = statistics_dtype(p->q), compute = p->q.dtype;
  double* weight = Scratch(context).take(p->k.rows);  // [S] exp(s - max) of one query and head

  for (int64_t h = 0; h < H; h++) {
    const int64_t q_col = h * E, kv_col = h / group * E;
    for (int64_t t = 0; t < T; t++) {
      const int64_t begin = p->kv_start[t], end = p->kv_end[t], out_row = p->out_row[t];
      double max = -INFINITY, sum = 0;
      for (int64_t j = begin; j < end; j++) {
        weight[j] = p->scale * dot(p->q, t, q_col, p->k, j, kv_col, E);
        max = std::max(max, weight[j]);
      }
      for (int64_t j = begin; j < end; j++) {
        weight[j] = std::exp(weight[j] - max);
        sum += weight[j];
      }
      if (p->lse) set(p->lse, statistics, h * T + t, begin < end ? max + std::log(sum) : 0);
      if (out_row < 0) continue;
      for (int64_t e = 0; e < E; e++) {
        double out = 0;
        for (int64_t j = begin; j < end; j++) out += as_operand(weight[j], compute) * get(p->v, j, kv_col + e);
        set(p->out, out_row, q_col + e, begin < end ? out / sum : 0);
      }
    }
  }
  return 0;
}

int attention_backward(const Context* context, const AttentionBackward* p) {
  const int64_t H = p->heads, K = p->kv_heads, E = p->head_dim, group = H / K, T = p->q.rows, S = p->k.rows;
  const DType statistics = statistics_dtype(p->q), compute = p->q.dtype;
  Scratch scratch(context);
  double* d_s = scratch.take(S);      // of one query and head, rounded as operands
  double* d_k = scratch.take(S * E);  // sums of one key/value head
  double* d_v = scratch.take(S * E);

  for (int64_t t = 0; t < T; t++) zero_row(p->d_q, t);
  for (int64_t kv_head = 0; kv_head < K; kv_head++) {
    const int64_t kv_col = kv_head * E;
    std::fill(d_k, d_k + S * E, 0.0);
    std::fill(d_v, d_v + S * E, 0.0);
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
      const int64_t q_col = h * E;
      for (int64_t t = 0; t < T; t++) {
        const int64_t begin = p->kv_start[t], end = p->kv_end[t], row = p->out_row[t];
        if (row < 0) continue;
        const double lse = get(p->lse, statistics, h * T + t);
        const double delta = dot(p->d_out, row, q_col, p->out, row, q_col, E);
        for (int64_t j = begin; j < end; j++) {
          const double prob = std::exp(p->scale * dot(p->q, t, q_col, p->k, j, kv_col, E) - lse);
          const double d_prob = dot(p->d_out, row, q_col, p->v, j, kv_col, E);
          d_s[j] = as_operand(prob * (d_prob - delta), compute);
          const double prob_operand = as_operand(prob, compute);
          for (int64_t e = 0; e < E; e++) {
            d_v[j * E + e] += prob_operand * get(p->d_out, row, q_col + e);
            d_k[j * E + e] += d_s[j] * p->scale * get(p->q, t, q_col + e);
          }
        }
        for (int64_t e = 0; e < E; e++) {
          double d_q = 0;
          for (int64_t j = begin; j < end; j++) d_q += d_s[j] * get(p->k, j, kv_col + e);
          set(p->d_q, t, q_col + e, p->scale * d_q);
        }
      }
    }
    for (int64_t j = 0; j < S; j++) {
      for (int64_t e = 0; e < E; e++) {
        set(p->d_k, j, kv_col + e, d_k[j * E + e]);
        set(p->d_v, j, kv_col + e, d_v[j * E + e]);
      }
    }
  }
  return 0;
}

}  // namespace mot::reference
