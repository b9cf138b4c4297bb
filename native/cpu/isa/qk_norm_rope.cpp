// Contract: ops/qk_norm_rope.h.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

static constexpr int64_t kMaxHeadDim = 256;

int64_t qk_norm_rope_workspace(const OpLimits& limits) { return run_sums_workspace(2 * limits.head_dim); }

template <int64_t kValue>
struct Constant {
  constexpr operator int64_t() const { return kValue; }
};

// Calls f with the head width: the usual ones as constants, so that the loops over a head are unrolled whole.
template <class F>
static inline void with_head_dim(int64_t E, F&& f) {
  if (E == 64) return f(Constant<64>{});
  if (E == 128) return f(Constant<128>{});
  f(E);
}

template <class X>
static inline float head_rstd(const X* x, int64_t E, double eps) {
  Vec squares = sum_columns(E, [&](Vec sum, int64_t e, auto part) {
    Vec v = load(x + e, part);
    return fma(v, v, sum);
  });
  return 1.f / __builtin_sqrtf(reduce_add(squares) / static_cast<float>(E) + static_cast<float>(eps));
}

// One head forward; weight == nullptr: no norm. cos_sin: E/2 cosines, then E/2 sines.
template <class X, class Out, class Size>
static inline void forward_head(const X* x, Out* out, Size size, const float* weight, const float* cos_sin,
                                double eps) {
  const int64_t E = size, half = E / 2;
  const float rstd = weight ? head_rstd(x, E, eps) : 1.f;
  for_columns(half, [&](int64_t e, auto part) {
    Vec a = load(x + e, part), b = load(x + half + e, part);
    if (weight) {
      a = a * rstd * load(weight + e, part);
      b = b * rstd * load(weight + half + e, part);
    }
    Vec cos = load(cos_sin + e, part), sin = load(cos_sin + half + e, part);
    store(out + e, fnma(b, sin, a * cos), part);
    store(out + half + e, fma(a, sin, b * cos), part);
  });
}

// One head backward; adds the gradient of the norm's weight to d_weight.
template <class X, class DOut, class DX, class Size>
static inline void backward_head(const X* x, const DOut* d_out, DX* d_x, Size size, const float* weight,
                                 const float* cos_sin, double eps, float* d_weight) {
  const int64_t E = size, half = E / 2;
  alignas(64) float g[kMaxHeadDim];  // the gradient before the rotation, then times weight
  for_columns(half, [&](int64_t e, auto part) {
    Vec a = load(d_out + e, part), b = load(d_out + half + e, part);
    Vec cos = load(cos_sin + e, part), sin = load(cos_sin + half + e, part);
    store(g + e, fma(b, sin, a * cos), part);
    store(g + half + e, fnma(a, sin, b * cos), part);
  });
  if (!weight) {
    for_columns(E, [&](int64_t e, auto part) { store(d_x + e, load(g + e, part), part); });
    return;
  }
  const float rstd = head_rstd(x, E, eps);
  Vec g_dot_x = sum_columns(E, [&](Vec sum, int64_t e, auto part) {
    Vec before = load(g + e, part), v = load(x + e, part), after = before * load(weight + e, part);
    store(d_weight + e, fma(before * rstd, v, load(d_weight + e, part)), part);
    store(g + e, after, part);
    return fma(after, v, sum);
  });
  const Vec c = set1(reduce_add(g_dot_x) / static_cast<float>(E) * rstd * rstd);
  for_columns(
      E, [&](int64_t e, auto part) { store(d_x + e, fnma(load(x + e, part), c, load(g + e, part)) * rstd, part); });
}

template <class From, class To>
static inline void copy_row(const From* from, To* to, int64_t cols) {
  for_columns(cols, [&](int64_t i, auto part) { store(to + i, load(from + i, part), part); });
}

static inline const float* norm_weight(const TowerWeights& norm, int64_t tower) {
  return norm.data ? f32_of(norm, tower) : nullptr;
}

// q, k and v are of one type, and so are their gradients.
template <class X, class Out, class Size>
static void forward_row(const QkNormRopeForward& p, int64_t n, Size E, const float* q_weight, const float* k_weight) {
  const int64_t H = p.heads, K = p.kv_heads;
  const float* cos_sin = p.rope_table + p.position[n] * E;
  const X *q_in = row_of<X>(p.qkv, n), *k_in = q_in + H * E, *v_in = k_in + K * E;
  Out *q = row_of<Out>(p.q, p.q_row[n]), *k = row_of<Out>(p.k, p.kv_row[n]), *v = row_of<Out>(p.v, p.kv_row[n]);
  for (int64_t h = 0; h < H; h++) forward_head(q_in + h * E, q + h * E, E, q_weight, cos_sin, p.eps);
  for (int64_t h = 0; h < K; h++) forward_head(k_in + h * E, k + h * E, E, k_weight, cos_sin, p.eps);
  copy_row(v_in, v, K * E);
}

int qk_norm_rope_forward(const Context* context, const QkNormRopeForward* params) {
  const QkNormRopeForward& p = *params;
  const int64_t E = p.head_dim;
  if (!is_f32_or_bf16(p.qkv)) return fail("[qk_norm_rope] expected f32 or bf16, got %s", dtype_name(p.qkv.dtype));
  parallel_rows(context, p.qkv.rows, [&](int64_t begin, int64_t end) {
    for_runs(p.segments, begin, end, [&](int64_t first, int64_t last, int64_t tower) {
      if (tower < 0) return;
      const float *q_weight = norm_weight(p.q_norm, tower), *k_weight = norm_weight(p.k_norm, tower);
      with_type(p.qkv.dtype, [&](auto x) {
        with_type(p.q.dtype, [&](auto out) {
          with_head_dim(E, [&](auto size) {
            for (int64_t n = first; n < last; n++)
              forward_row<decltype(x), decltype(out)>(p, n, size, q_weight, k_weight);
          });
        });
      });
    });
  });
  return 0;
}

template <class X, class DOut, class DX, class Size>
static void backward_row(const QkNormRopeBackward& p, int64_t n, Size E, const float* q_weight, const float* k_weight,
                         float* sums) {
  const int64_t H = p.heads, K = p.kv_heads;
  const float* cos_sin = p.rope_table + p.position[n] * E;
  const X *q = row_of<X>(p.qkv, n), *k = q + H * E;
  const DOut *d_q = row_of<DOut>(p.d_q, p.q_row[n]), *d_k = row_of<DOut>(p.d_k, p.kv_row[n]);
  DX *d_q_in = row_of<DX>(p.d_qkv, n), *d_k_in = d_q_in + H * E, *d_v_in = d_k_in + K * E;
  for (int64_t h = 0; h < H; h++)
    backward_head(q + h * E, d_q + h * E, d_q_in + h * E, E, q_weight, cos_sin, p.eps, sums);
  for (int64_t h = 0; h < K; h++)
    backward_head(k + h * E, d_k + h * E, d_k_in + h * E, E, k_weight, cos_sin, p.eps, sums + E);
  copy_row(row_of<DOut>(p.d_v, p.kv_row[n]), d_v_in, K * E);
}

int qk_norm_rope_backward(const Context* context, const QkNormRopeBackward* params) {
  const QkNormRopeBackward& p = *params;
  const int64_t E = p.head_dim;
  if (!is_f32_or_bf16(p.qkv)) return fail("[qk_norm_rope] expected f32 or bf16, got %s", dtype_name(p.qkv.dtype));
  if (E > kMaxHeadDim) return fail("[qk_norm_rope] expected a head width of at most 256, got %d", static_cast<int>(E));
  auto run = [&](int64_t first, int64_t last, int64_t tower, float* sums) {
    if (tower < 0) return zero_rows(p.d_qkv, first, last);
    const float *q_weight = norm_weight(p.q_norm, tower), *k_weight = norm_weight(p.k_norm, tower);
    with_type(p.qkv.dtype, [&](auto x) {
      with_type(p.d_q.dtype, [&](auto d_out) {
        with_type(p.d_qkv.dtype, [&](auto d_x) {
          with_head_dim(E, [&](auto size) {
            for (int64_t n = first; n < last; n++)
              backward_row<decltype(x), decltype(d_out), decltype(d_x)>(p, n, size, q_weight, k_weight, sums);
          });
        });
      });
    });
  };
  const TowerWeights gradients[] = {p.d_q_norm, p.d_k_norm};
  sum_over_runs(context, p.segments, p.qkv.rows, gradients, p.q_norm.data ? 2 : 0, run);
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
