// Contract: ops/qk_norm_rope.h.
#include <algorithm>
#include <cmath>

#include "reference/reference.h"

namespace mot::reference {
namespace {

// 1 / rms of one head of qkv, which begins at column `col`.
double head_rstd(const Matrix& qkv, int64_t n, int64_t col, int64_t E, double eps) {
  double squares = 0;
  for (int64_t e = 0; e < E; e++) squares += get(qkv, n, col + e) * get(qkv, n, col + e);
  return 1 / std::sqrt(squares / E + eps);
}

struct Rotation {
  const float* table;
  DType dtype;
  int64_t row, E;
  double cos(int64_t e) const { return get(table, dtype, row * E + e); }
  double sin(int64_t e) const { return get(table, dtype, row * E + E / 2 + e); }
};

}  // namespace

int qk_norm_rope_forward(const Context* context, const QkNormRopeForward* p) {
  const int64_t H = p->heads, K = p->kv_heads, E = p->head_dim;
  double* x = Scratch(context).take(E);

  const auto norm_rope = [&](int64_t n, int64_t tower, int64_t col, const TowerWeights& norm, const Matrix& out,
                             int64_t out_row, int64_t out_col) {
    for (int64_t e = 0; e < E; e++) x[e] = get(p->qkv, n, col + e);
    if (given(norm)) {
      const double rstd = head_rstd(p->qkv, n, col, E, p->eps);
      for (int64_t e = 0; e < E; e++) x[e] *= rstd * get(tower_matrix(norm, tower), 0, e);
    }
    const Rotation r{p->rope_table, statistics_dtype(p->qkv), p->position[n], E};
    for (int64_t e = 0; e < E / 2; e++) {
      set(out, out_row, out_col + e, x[e] * r.cos(e) - x[e + E / 2] * r.sin(e));
      set(out, out_row, out_col + e + E / 2, x[e + E / 2] * r.cos(e) + x[e] * r.sin(e));
    }
  };

  for_each_row(p->segments, [&](int64_t n, int64_t tower) {
    const int64_t q_row = p->q_row[n], kv_row = p->kv_row[n];
    for (int64_t h = 0; h < H; h++) norm_rope(n, tower, h * E, p->q_norm, p->q, q_row, h * E);
    for (int64_t h = 0; h < K; h++) norm_rope(n, tower, (H + h) * E, p->k_norm, p->k, kv_row, h * E);
    for (int64_t i = 0; i < K * E; i++) set(p->v, kv_row, i, get(p->qkv, n, (H + K) * E + i));
  });
  return 0;
}

int qk_norm_rope_backward(const Context* context, const QkNormRopeBackward* p) {
  const int64_t H = p->heads, K = p->kv_heads, E = p->head_dim;
  Scratch scratch(context);
  double* d = scratch.take(E);         // gradient of one head before the rotation
  double* d_q_norm = scratch.take(E);  // sums of one tower
  double* d_k_norm = scratch.take(E);

  // Gradient of one head of qkv; adds that of the norm's weight to d_norm.
  const auto norm_rope = [&](int64_t n, int64_t tower, int64_t col, const TowerWeights& norm, const Matrix& d_out,
                             int64_t out_row, int64_t out_col, double* d_norm) {
    const Rotation r{p->rope_table, statistics_dtype(p->qkv), p->position[n], E};
    for (int64_t e = 0; e < E / 2; e++) {
      const double a = get(d_out, out_row, out_col + e), b = get(d_out, out_row, out_col + e + E / 2);
      d[e] = a * r.cos(e) + b * r.sin(e);
      d[e + E / 2] = b * r.cos(e) - a * r.sin(e);
    }
    if (given(norm)) {
      const Matrix weight = tower_matrix(norm, tower);
      const double rstd = head_rstd(p->qkv, n, col, E, p->eps);
      double g_dot_x = 0;
      for (int64_t e = 0; e < E; e++) {
        d_norm[e] += d[e] * get(p->qkv, n, col + e) * rstd;
        d[e] *= get(weight, 0, e);
        g_dot_x += d[e] * get(p->qkv, n, col + e);
      }
      const double c = g_dot_x / E * rstd * rstd;
      for (int64_t e = 0; e < E; e++) d[e] = rstd * (d[e] - get(p->qkv, n, col + e) * c);
    }
    for (int64_t e = 0; e < E; e++) set(p->d_qkv, n, col + e, d[e]);
  };

  for_each_padding_row(p->segments, p->qkv.rows, [&](int64_t n) { zero_row(p->d_qkv, n); });
  int64_t towers = 1;  // without norms all rows are alike
  if (given(p->q_norm)) towers = p->q_norm.towers;
  for (int64_t tower = 0; tower < towers; tower++) {
    std::fill(d_q_norm, d_q_norm + E, 0.0);
    std::fill(d_k_norm, d_k_norm + E, 0.0);
    for_each_row(p->segments, [&](int64_t n, int64_t t) {
      if (given(p->q_norm) && t != tower) return;
      const int64_t q_row = p->q_row[n], kv_row = p->kv_row[n];
      for (int64_t h = 0; h < H; h++) norm_rope(n, tower, h * E, p->q_norm, p->d_q, q_row, h * E, d_q_norm);
      for (int64_t h = 0; h < K; h++) norm_rope(n, tower, (H + h) * E, p->k_norm, p->d_k, kv_row, h * E, d_k_norm);
      for (int64_t i = 0; i < K * E; i++) set(p->d_qkv, n, (H + K) * E + i, get(p->d_v, kv_row, i));
    });
    if (!given(p->q_norm)) continue;
    for (int64_t e = 0; e < E; e++) {
      add(tower_matrix(p->d_q_norm, tower), 0, e, d_q_norm[e]);
      add(tower_matrix(p->d_k_norm, tower), 0, e, d_k_norm[e]);
    }
  }
  return 0;
}

}  // namespace mot::reference
