// Contract: ops/silu.h.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"
#include "cpu/isa/sigmoid.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

int64_t silu_workspace(const OpLimits&) { return 0; }

int silu_forward(const Context* context, const SiluForward* params) {
  const SiluForward& p = *params;
  if (!is_f32_or_bf16(p.x)) return fail("[silu] expected f32 or bf16, got %s", dtype_name(p.x.dtype));
  parallel_rows(context, p.out.rows, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const Row x_row = row_of(p.x, n), out = row_of(p.out, n);
      for_columns(p.out.cols, [&](int64_t d, auto part) {
        const Vec x = load(x_row, d, part);
        Vec s[1] = {x};
        sigmoid(s);
        store(out, d, x * s[0], part);
      });
    }
  });
  return 0;
}

int silu_backward(const Context* context, const SiluBackward* params) {
  const SiluBackward& p = *params;
  if (!is_f32_or_bf16(p.x)) return fail("[silu] expected f32 or bf16, got %s", dtype_name(p.x.dtype));
  parallel_rows(context, p.d_x.rows, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const Row x_row = row_of(p.x, n), d_out = row_of(p.d_out, n), d_x = row_of(p.d_x, n);
      for_columns(p.d_x.cols, [&](int64_t d, auto part) {
        const Vec x = load(x_row, d, part);
        Vec s[1] = {x};
        sigmoid(s);
        store(d_x, d, load(d_out, d, part) * s[0] * fma(x, 1.f - s[0], set1(1.f)), part);
      });
    }
  });
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
