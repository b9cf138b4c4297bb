// Contract: ops/squared_error.h.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

int64_t squared_error_workspace(const OpLimits&) { return 0; }

int squared_error(const Context* context, const SquaredError* params) {
  const SquaredError& p = *params;
  if (p.x.dtype != kF32 || p.target.dtype != kF32)
    return fail("[squared_error] expected f32, got %s and %s", dtype_name(p.x.dtype), dtype_name(p.target.dtype));
  const int64_t P = p.x.cols;
  parallel_rows(context, p.x.rows, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const float *x = row_of<float>(p.x, n), *target = row_of<float>(p.target, n);
      const Vec sum = sum_columns(P, [&](Vec s, int64_t i, auto part) {
        const Vec difference = load(x + i, part) - load(target + i, part);
        return fma(difference, difference, s);
      });
      p.error[n] = reduce_add(sum) / static_cast<float>(P);
      if (!given(p.d_x)) continue;
      float* d_x = row_of<float>(p.d_x, n);
      const Vec scale = set1(p.row_scale[n] * 2.f / static_cast<float>(P));
      for_columns(
          P, [&](int64_t i, auto part) { store(d_x + i, scale * (load(x + i, part) - load(target + i, part)), part); });
    }
  });
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
