// Contract: ops/swiglu.h.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"
#include "cpu/isa/sigmoid.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

int64_t swiglu_workspace(const OpLimits&) { return 0; }

// kScaled: times the row's factor.
template <bool kScaled, class T, class Out>
static void forward_row(const SwigluForward& p, int64_t n) {
  const int64_t F = p.out.cols;
  const T *gate_row = row_of<T>(p.gate_up, n), *up_row = gate_row + F;
  Out* out = row_of<Out>(p.out, n);
  const Vec scale = set1(kScaled ? p.row_scale[n] : 1.f);
  for_column_groups<kSigmoidGroup>(F, [&]<int kCount>(int64_t f, auto part, Count<kCount>) {
    Vec gate[kCount], s[kCount];
    MOT_UNROLL
    for (int i = 0; i < kCount; i++) gate[i] = s[i] = load(gate_row + f + i * kWidth, part);
    sigmoid(s);
    MOT_UNROLL
    for (int i = 0; i < kCount; i++) {
      Vec value = gate[i] * s[i] * load(up_row + f + i * kWidth, part);
      store(out + f + i * kWidth, kScaled ? value * scale : value, part);
    }
  });
}

int swiglu_forward(const Context* context, const SwigluForward* params) {
  const SwigluForward& p = *params;
  if (!is_f32_or_bf16(p.gate_up)) return fail("[swiglu] expected f32 or bf16, got %s", dtype_name(p.gate_up.dtype));
  parallel_rows(context, p.out.rows, [&](int64_t begin, int64_t end) {
    with_type(p.gate_up.dtype, [&](auto t) {
      with_type(p.out.dtype, [&](auto out) {
        for (int64_t n = begin; n < end; n++)
          p.row_scale ? forward_row<true, decltype(t), decltype(out)>(p, n)
                      : forward_row<false, decltype(t), decltype(out)>(p, n);
      });
    });
  });
  return 0;
}

template <bool kScaled, class T, class DOut, class DGateUp>
static void backward_row(const SwigluBackward& p, int64_t n) {
  const int64_t F = p.d_out.cols;
  const T *gate_row = row_of<T>(p.gate_up, n), *up_row = gate_row + F;
  const DOut* d_out_row = row_of<DOut>(p.d_out, n);
  DGateUp *d_gate = row_of<DGateUp>(p.d_gate_up, n), *d_up = d_gate + F;
  const Vec scale = set1(kScaled ? p.row_scale[n] : 1.f);
  Vec d_scale[kSigmoidGroup] = {};
  for_column_groups<kSigmoidGroup>(F, [&]<int kCount>(int64_t f, auto part, Count<kCount>) {
    Vec gate[kCount], s[kCount];
    MOT_UNROLL
    for (int i = 0; i < kCount; i++) gate[i] = s[i] = load(gate_row + f + i * kWidth, part);
    sigmoid(s);
    MOT_UNROLL
    for (int i = 0; i < kCount; i++) {
      const int64_t at = f + i * kWidth;
      Vec up = load(up_row + at, part), d_out_s = load(d_out_row + at, part) * s[i];
      if constexpr (kScaled) {
        d_scale[i] = fma(d_out_s * gate[i], up, d_scale[i]);
        d_out_s = d_out_s * scale;
      }
      store(d_gate + at, d_out_s * up * fma(gate[i], 1.f - s[i], set1(1.f)), part);
      store(d_up + at, d_out_s * gate[i], part);
    }
  });
  if constexpr (kScaled) p.d_row_scale[n] = reduce_add((d_scale[0] + d_scale[1]) + (d_scale[2] + d_scale[3]));
}

int swiglu_backward(const Context* context, const SwigluBackward* params) {
  const SwigluBackward& p = *params;
  if (!is_f32_or_bf16(p.gate_up)) return fail("[swiglu] expected f32 or bf16, got %s", dtype_name(p.gate_up.dtype));
  parallel_rows(context, p.d_out.rows, [&](int64_t begin, int64_t end) {
    with_type(p.gate_up.dtype, [&](auto t) {
      with_type(p.d_out.dtype, [&](auto d_out) {
        with_type(p.d_gate_up.dtype, [&](auto d_gate_up) {
          for (int64_t n = begin; n < end; n++)
            p.row_scale ? backward_row<true, decltype(t), decltype(d_out), decltype(d_gate_up)>(p, n)
                        : backward_row<false, decltype(t), decltype(d_out), decltype(d_gate_up)>(p, n);
        });
      });
    });
  });
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
