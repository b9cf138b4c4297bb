// Contract: ops/swiglu.h.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

int64_t swiglu_workspace(const OpLimits&) { return 0; }

static inline Vec sigmoid(Vec x) { return 1.f / (1.f + exp(-x)); }

int swiglu_forward(const Context* context, const SwigluForward* params) {
  const SwigluForward& p = *params;
  if (!is_f32_or_bf16(p.gate_up)) return fail("[swiglu] expected f32 or bf16, got %s", dtype_name(p.gate_up.dtype));
  const int64_t F = p.out.cols;
  parallel_rows(context, p.out.rows, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      Row gate_row = row_of(p.gate_up, n), up_row = row_of(p.gate_up, n, F), out = row_of(p.out, n);
      for_columns(F, [&](int64_t f, auto part) {
        Vec gate = load(gate_row, f, part), up = load(up_row, f, part);
        store(out, f, gate * sigmoid(gate) * up, part);
      });
    }
  });
  return 0;
}

int swiglu_backward(const Context* context, const SwigluBackward* params) {
  const SwigluBackward& p = *params;
  if (!is_f32_or_bf16(p.gate_up)) return fail("[swiglu] expected f32 or bf16, got %s", dtype_name(p.gate_up.dtype));
  const int64_t F = p.d_out.cols;
  parallel_rows(context, p.d_out.rows, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      Row gate_row = row_of(p.gate_up, n), up_row = row_of(p.gate_up, n, F), d_out_row = row_of(p.d_out, n);
      Row d_gate = row_of(p.d_gate_up, n), d_up = row_of(p.d_gate_up, n, F);
      for_columns(F, [&](int64_t f, auto part) {
        Vec gate = load(gate_row, f, part), up = load(up_row, f, part), d_out = load(d_out_row, f, part);
        Vec s = sigmoid(gate);
        store(d_gate, f, d_out * up * s * fma(gate, 1.f - s, set1(1.f)), part);
        store(d_up, f, d_out * gate * s, part);
      });
    }
  });
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
