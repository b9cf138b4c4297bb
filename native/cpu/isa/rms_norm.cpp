// Contract: ops/rms_norm.h.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

int64_t rms_norm_workspace(const OpLimits&) { return 0; }

static float forward_row(const RmsNormForward& p, int64_t n, const float* weight) {
  const int64_t D = p.x.cols;
  Row x = row_of(p.x, n), out = row_of(p.out, n);
  Vec squares = zero();
  for_columns(D, [&](int64_t d, auto part) {
    Vec v = load(x, d, part);
    squares = fma(v, v, squares);
  });
  float rstd = 1.f / __builtin_sqrtf(reduce_add(squares) / static_cast<float>(D) + static_cast<float>(p.eps));
  for_columns(D, [&](int64_t d, auto part) {
    Vec v = load(x, d, part) * rstd * load(weight + d, part);
    if (given(p.residual)) v += load(row_of(p.residual, n), d, part);
    store(out, d, v, part);
    if (given(p.out_copy)) store(row_of(p.out_copy, n), d, v, part);
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
      for (int64_t n = first; n < last; n++) p.rstd[n] = forward_row(p, n, f32_of(p.weight, tower));
    });
  });
  return 0;
}

// d_weight of `cols` columns (at most kStrip vectors) from column d0 on. Rows are summed in runs of kRowBlock, and the
// runs in order, so that rounding errors do not grow with the number of rows.
static constexpr int kStrip = 4;

static void d_weight_strip(const RmsNormBackward& p, int64_t d0, int64_t cols) {
  const int64_t N = p.x.rows;
  for (int64_t begin = 0; begin < N; begin += kRowBlock) {
    int64_t end = begin + kRowBlock < N ? begin + kRowBlock : N;
    for_runs(p.segments, begin, end, [&](int64_t first, int64_t last, int64_t tower) {
      if (tower < 0) return;
      Vec sum[kStrip] = {};
      for (int64_t n = first; n < last; n++) {
        Row x = row_of(p.x, n, d0), d_out = row_of(p.d_out, n, d0);
        for_columns(cols, [&](int64_t d, auto part) {
          sum[d / kWidth] = fma(load(d_out, d, part) * p.rstd[n], load(x, d, part), sum[d / kWidth]);
        });
      }
      float* d_weight = static_cast<float*>(p.d_weight.data[tower]) + d0;
      for_columns(cols,
                  [&](int64_t d, auto part) { store(d_weight + d, load(d_weight + d, part) + sum[d / kWidth], part); });
    });
  }
}

static void backward_row(const RmsNormBackward& p, int64_t n, const float* weight) {
  const int64_t D = p.x.cols;
  Row x = row_of(p.x, n), d_out = row_of(p.d_out, n), d_x = row_of(p.d_x, n);
  const float rstd = p.rstd[n];
  Vec g_dot_x = zero();
  for_columns(D, [&](int64_t d, auto part) {
    g_dot_x = fma(load(d_out, d, part) * load(weight + d, part), load(x, d, part), g_dot_x);
  });
  const Vec c = set1(reduce_add(g_dot_x) / static_cast<float>(D) * rstd * rstd);
  for_columns(D, [&](int64_t d, auto part) {
    Vec g = load(d_out, d, part) * load(weight + d, part);
    Vec v = fnma(load(x, d, part), c, g) * rstd;
    if (p.accumulate_d_x) v += load(d_x, d, part);
    store(d_x, d, v, part);
  });
}

int rms_norm_backward(const Context* context, const RmsNormBackward* params) {
  const RmsNormBackward& p = *params;
  if (!is_f32_or_bf16(p.x)) return fail("[rms_norm] expected x in f32 or bf16, got %s", dtype_name(p.x.dtype));
  // Before d_x, which may be d_out.
  const int64_t D = p.x.cols, strip = kStrip * kWidth;
  parallel_for(context->threads, (D + strip - 1) / strip, [&](int64_t task, int) {
    int64_t d0 = task * strip;
    d_weight_strip(p, d0, D - d0 < strip ? D - d0 : strip);
  });
  parallel_rows(context, p.x.rows, [&](int64_t begin, int64_t end) {
    for_runs(p.segments, begin, end, [&](int64_t first, int64_t last, int64_t tower) {
      if (tower < 0) {
        if (!p.accumulate_d_x) zero_rows(p.d_x, first, last);
        return;
      }
      for (int64_t n = first; n < last; n++) backward_row(p, n, f32_of(p.weight, tower));
    });
  });
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
