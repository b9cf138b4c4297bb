// Contract: ops/rms_norm.h.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

int64_t rms_norm_workspace(const OpLimits& limits) { return run_sums_workspace(limits.d_model); }

template <class X, class Out>
static float forward_row(const RmsNormForward& p, int64_t n, const float* weight) {
  const int64_t D = p.x.cols;
  const X* x = row_of<X>(p.x, n);
  Out* out = row_of<Out>(p.out, n);
  Vec squares = sum_columns(D, [&](Vec sum, int64_t d, auto part) {
    Vec v = load(x + d, part);
    return fma(v, v, sum);
  });
  const float rstd = 1.f / __builtin_sqrtf(reduce_add(squares) / static_cast<float>(D) + static_cast<float>(p.eps));
  const bool has_residual = given(p.residual), has_copy = given(p.out_copy);
  const Row residual = row_of(p.residual, n), copy = row_of(p.out_copy, n);
  for_columns(D, [&](int64_t d, auto part) {
    Vec v = load(x + d, part) * rstd * load(weight + d, part);
    if (has_residual) v += load(residual, d, part);
    store(out + d, v, part);
    if (has_copy) store(copy, d, v, part);
  });
  return rstd;
}

int rms_norm_forward(const Context* context, const RmsNormForward* params) {
  const RmsNormForward& p = *params;
  if (!is_f32_or_bf16(p.x)) return fail("[rms_norm] expected x in f32 or bf16, got %s", dtype_name(p.x.dtype));
  parallel_rows(context, p.x.rows, [&](int64_t begin, int64_t end) {
    for_runs(p.segments, begin, end, [&](int64_t first, int64_t last, int64_t tower) {
      if (tower < 0) {
        zero_rows(p.out, first, last);
        if (given(p.out_copy)) zero_rows(p.out_copy, first, last);
        for (int64_t n = first; n < last; n++) p.rstd[n] = 0;
        return;
      }
      with_type(p.x.dtype, [&](auto x) {
        with_type(p.out.dtype, [&](auto out) {
          for (int64_t n = first; n < last; n++)
            p.rstd[n] = forward_row<decltype(x), decltype(out)>(p, n, f32_of(p.weight, tower));
        });
      });
    });
  });
  return 0;
}

// d_weight: the sums of this run. One row at a time: with several, memory is read in too many places at once.
template <class X, class DOut, class DX>
static void backward_row(const RmsNormBackward& p, int64_t n, const float* weight, float* d_weight) {
  const int64_t D = p.x.cols;
  const X* x = row_of<X>(p.x, n);
  const DOut* d_out = row_of<DOut>(p.d_out, n);
  DX* d_x = row_of<DX>(p.d_x, n);
  const float rstd = p.rstd[n];
  Vec g_dot_x = sum_columns(D, [&](Vec sum, int64_t d, auto part) {
    return fma(load(d_out + d, part) * load(weight + d, part), load(x + d, part), sum);
  });
  const Vec c = set1(reduce_add(g_dot_x) / static_cast<float>(D) * rstd * rstd);
  const bool accumulate = p.accumulate_d_x;
  for_columns(D, [&](int64_t d, auto part) {
    Vec g = load(d_out + d, part), v = load(x + d, part);
    store(d_weight + d, fma(g * rstd, v, load(d_weight + d, part)), part);
    Vec result = fnma(v, c, g * load(weight + d, part)) * rstd;
    if (accumulate) result += load(d_x + d, part);
    store(d_x + d, result, part);
  });
}

int rms_norm_backward(const Context* context, const RmsNormBackward* params) {
  const RmsNormBackward& p = *params;
  if (!is_f32_or_bf16(p.x)) return fail("[rms_norm] expected x in f32 or bf16, got %s", dtype_name(p.x.dtype));
  auto run = [&](int64_t first, int64_t last, int64_t tower, float* d_weight) {
    if (tower < 0) {
      if (!p.accumulate_d_x) zero_rows(p.d_x, first, last);
      return;
    }
    const float* weight = f32_of(p.weight, tower);
    with_type(p.x.dtype, [&](auto x) {
      with_type(p.d_out.dtype, [&](auto d_out) {
        with_type(p.d_x.dtype, [&](auto d_x) {
          for (int64_t n = first; n < last; n++)
            backward_row<decltype(x), decltype(d_out), decltype(d_x)>(p, n, weight, d_weight);
        });
      });
    });
  };
  sum_over_runs(context, p.segments, p.x.rows, &p.d_weight, 1, run);
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
