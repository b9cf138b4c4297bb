// Contract: ops/qk_norm_rope.h.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

static constexpr int64_t kMaxHeadDim = 256;

// Sums for d_q_norm and d_k_norm, [2E], of each run of rows with one tower. A run owns the place of its first row.
int64_t qk_norm_rope_workspace(const OpLimits& limits) {
  return limits.rows * 2 * limits.head_dim * static_cast<int64_t>(sizeof(float));
}

static float head_rstd(Row x, int64_t E, double eps) {
  Vec squares = zero();
  for_columns(E, [&](int64_t e, auto part) {
    Vec v = load(x, e, part);
    squares = fma(v, v, squares);
  });
  return 1.f / __builtin_sqrtf(reduce_add(squares) / static_cast<float>(E) + static_cast<float>(eps));
}

static inline Row advance(Row row, int64_t columns) {
  return {static_cast<char*>(row.data) + columns * (row.is_bf16 ? 2 : 4), row.is_bf16};
}

// One head forward; weight == nullptr: no norm. cos_sin: E/2 cosines, then E/2 sines.
static void forward_head(Row x, Row out, int64_t E, const float* weight, const float* cos_sin, double eps) {
  const int64_t half = E / 2;
  const float rstd = weight ? head_rstd(x, E, eps) : 1.f;
  Row x_high = advance(x, half), out_high = advance(out, half);
  for_columns(half, [&](int64_t e, auto part) {
    Vec a = load(x, e, part), b = load(x_high, e, part);
    if (weight) {
      a = a * rstd * load(weight + e, part);
      b = b * rstd * load(weight + half + e, part);
    }
    Vec cos = load(cos_sin + e, part), sin = load(cos_sin + half + e, part);
    store(out, e, fnma(b, sin, a * cos), part);
    store(out_high, e, fma(a, sin, b * cos), part);
  });
}

// One head backward; adds the gradient of the norm's weight to d_weight.
static void backward_head(Row x, Row d_out, Row d_x, int64_t E, const float* weight, const float* cos_sin, double eps,
                          float* d_weight) {
  const int64_t half = E / 2;
  float g[kMaxHeadDim];  // the gradient before the rotation, then times weight
  Row d_out_high = advance(d_out, half);
  for_columns(half, [&](int64_t e, auto part) {
    Vec a = load(d_out, e, part), b = load(d_out_high, e, part);
    Vec cos = load(cos_sin + e, part), sin = load(cos_sin + half + e, part);
    store(g + e, fma(b, sin, a * cos), part);
    store(g + half + e, fnma(a, sin, b * cos), part);
  });
  if (!weight) {
    for_columns(E, [&](int64_t e, auto part) { store(d_x, e, load(g + e, part), part); });
    return;
  }
  const float rstd = head_rstd(x, E, eps);
  Vec g_dot_x = zero();
  for_columns(E, [&](int64_t e, auto part) {
    Vec before = load(g + e, part), v = load(x, e, part), after = before * load(weight + e, part);
    store(d_weight + e, fma(before * rstd, v, load(d_weight + e, part)), part);
    store(g + e, after, part);
    g_dot_x = fma(after, v, g_dot_x);
  });
  const Vec c = set1(reduce_add(g_dot_x) / static_cast<float>(E) * rstd * rstd);
  for_columns(E,
              [&](int64_t e, auto part) { store(d_x, e, fnma(load(x, e, part), c, load(g + e, part)) * rstd, part); });
}

static inline void copy_row(Row from, Row to, int64_t cols) {
  for_columns(cols, [&](int64_t i, auto part) { store(to, i, load(from, i, part), part); });
}

static inline const float* norm_weight(const TowerWeights& norm, int64_t tower) {
  return norm.data ? f32_of(norm, tower) : nullptr;
}

int qk_norm_rope_forward(const Context* context, const QkNormRopeForward* params) {
  const QkNormRopeForward& p = *params;
  const int64_t H = p.heads, K = p.kv_heads, E = p.head_dim;
  if (!is_f32_or_bf16(p.qkv)) return fail("[qk_norm_rope] expected f32 or bf16, got %s", dtype_name(p.qkv.dtype));
  parallel_rows(context, p.qkv.rows, [&](int64_t begin, int64_t end) {
    for_runs(p.segments, begin, end, [&](int64_t first, int64_t last, int64_t tower) {
      if (tower < 0) return;
      const float *q_weight = norm_weight(p.q_norm, tower), *k_weight = norm_weight(p.k_norm, tower);
      for (int64_t n = first; n < last; n++) {
        const float* cos_sin = p.rope_table + p.position[n] * E;
        for (int64_t h = 0; h < H; h++)
          forward_head(row_of(p.qkv, n, h * E), row_of(p.q, p.q_row[n], h * E), E, q_weight, cos_sin, p.eps);
        for (int64_t h = 0; h < K; h++)
          forward_head(row_of(p.qkv, n, (H + h) * E), row_of(p.k, p.kv_row[n], h * E), E, k_weight, cos_sin, p.eps);
        copy_row(row_of(p.qkv, n, (H + K) * E), row_of(p.v, p.kv_row[n]), K * E);
      }
    });
  });
  return 0;
}

int qk_norm_rope_backward(const Context* context, const QkNormRopeBackward* params) {
  const QkNormRopeBackward& p = *params;
  const int64_t H = p.heads, K = p.kv_heads, E = p.head_dim, N = p.qkv.rows;
  if (!is_f32_or_bf16(p.qkv)) return fail("[qk_norm_rope] expected f32 or bf16, got %s", dtype_name(p.qkv.dtype));
  if (E > kMaxHeadDim) return fail("[qk_norm_rope] expected a head width of at most 256, got %d", static_cast<int>(E));
  float* sums = static_cast<float*>(context->workspace);
  parallel_rows(context, N, [&](int64_t begin, int64_t end) {
    for_runs(p.segments, begin, end, [&](int64_t first, int64_t last, int64_t tower) {
      if (tower < 0) return zero_rows(p.d_qkv, first, last);
      const float *q_weight = norm_weight(p.q_norm, tower), *k_weight = norm_weight(p.k_norm, tower);
      float *q_sum = sums + first * 2 * E, *k_sum = q_sum + E;
      if (q_weight) __builtin_memset(q_sum, 0, 2 * E * sizeof(float));
      for (int64_t n = first; n < last; n++) {
        const float* cos_sin = p.rope_table + p.position[n] * E;
        for (int64_t h = 0; h < H; h++)
          backward_head(row_of(p.qkv, n, h * E), row_of(p.d_q, p.q_row[n], h * E), row_of(p.d_qkv, n, h * E), E,
                        q_weight, cos_sin, p.eps, q_sum);
        for (int64_t h = 0; h < K; h++)
          backward_head(row_of(p.qkv, n, (H + h) * E), row_of(p.d_k, p.kv_row[n], h * E),
                        row_of(p.d_qkv, n, (H + h) * E), E, k_weight, cos_sin, p.eps, k_sum);
        copy_row(row_of(p.d_v, p.kv_row[n]), row_of(p.d_qkv, n, (H + K) * E), K * E);
      }
    });
  });
  if (!p.q_norm.data) return 0;
  // The same runs again, in order.
  for (int64_t begin = 0; begin < N; begin += kRowBlock) {
    int64_t end = begin + kRowBlock < N ? begin + kRowBlock : N;
    for_runs(p.segments, begin, end, [&](int64_t first, int64_t, int64_t tower) {
      if (tower < 0) return;
      float* d_norm[] = {static_cast<float*>(p.d_q_norm.data[tower]), static_cast<float*>(p.d_k_norm.data[tower])};
      for (int i = 0; i < 2; i++) {
        const float* sum = sums + (first * 2 + i) * E;
        for_columns(E, [&](int64_t e, auto part) {
          store(d_norm[i] + e, load(d_norm[i] + e, part) + load(sum + e, part), part);
        });
      }
    });
  }
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
