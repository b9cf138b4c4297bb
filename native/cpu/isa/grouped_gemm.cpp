#include "core/thread_team.h"
#include "cpu/isa/gemm.h"
#include "cpu/isa/kernels.h"
#include "cpu/status.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

namespace {

int check(DType a, DType b, DType compute) {
  const DType dtypes[] = {a, b, compute};
  for (DType dtype : dtypes)
    if (dtype != kF32 && dtype != kBF16)
      return fail("[grouped_gemm] the cpu backend takes F32 and BF16, got %s", dtype_name(dtype));
  return 0;
}

// Rows in no segment become zero.
void clear_padding(const Context& context, const Segments& segments, const Matrix& m) {
  constexpr int64_t kRows = 256;  // of a task
  int64_t size = static_cast<int64_t>(dtype_size(m.dtype)), end = 0;
  for (int64_t i = 0; i <= segments.count; i++) {
    int64_t begin = i < segments.count ? segments.data[i].begin : m.rows;
    parallel_for(context.threads, ceil_div(begin - end, kRows), [&](int64_t task, int) {
      int64_t first = end + task * kRows;
      for (int64_t row = first; row < min_of(first + kRows, begin); row++)
        __builtin_memset(static_cast<char*>(m.data) + row * m.stride * size, 0, static_cast<size_t>(m.cols * size));
    });
    if (i < segments.count) end = segments.data[i].end;
  }
}

}  // namespace

int grouped_gemm_forward(const Context* context, const GroupedGemmForward* p) {
  if (int status = check(p->x.dtype, p->y.dtype, p->compute)) return status;
  const float* residual = static_cast<const float*>(p->residual.data);
  gemm_rows(*context, {p->x, p->weight, true, residual, p->residual.stride, p->y, p->segments, p->compute});
  clear_padding(*context, p->segments, p->y);
  return 0;
}

int grouped_gemm_d_x(const Context* context, const GroupedGemmDx* p) {
  if (int status = check(p->d_y.dtype, p->d_x.dtype, p->compute)) return status;
  const float* addend = p->accumulate ? static_cast<const float*>(p->d_x.data) : nullptr;
  gemm_rows(*context, {p->d_y, p->weight, false, addend, p->d_x.stride, p->d_x, p->segments, p->compute});
  if (!p->accumulate) clear_padding(*context, p->segments, p->d_x);
  return 0;
}

int grouped_gemm_d_w(const Context* context, const GroupedGemmDw* p) {
  if (int status = check(p->d_y.dtype, p->x.dtype, p->compute)) return status;
  gemm_gradient(*context, {p->d_y, p->x, p->d_w, p->segments, p->compute});
  return 0;
}

// A projection's in and out features change places between the directions.
int64_t grouped_gemm_workspace(const OpLimits& limits) {
  int64_t features = max_of(limits.in_features, limits.out_features);
  return gemm_workspace(features, features, limits.rows, limits.threads);
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
