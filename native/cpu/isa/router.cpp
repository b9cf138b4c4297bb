// Contract: ops/router.h. Rows are a few numbers long: most of a vector's lanes idle, and it does not matter.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

int64_t router_workspace(const OpLimits&) { return 0; }

static inline Vec or_else(Vec v, All, float) { return v; }
static inline Vec or_else(Vec v, First part, float rest) { return select(mask_range(0, part.n), v, set1(rest)); }

// Calls f(row) for the rows of all segments, in parallel.
template <class F>
static inline void parallel_segment_rows(const Context* context, const Segments& segments, int64_t rows, F&& f) {
  parallel_rows(context, rows, [&](int64_t begin, int64_t end) {
    for_runs(segments, begin, end, [&](int64_t first, int64_t last, int64_t tower) {
      for (int64_t n = first; tower >= 0 && n < last; n++) f(n);
    });
  });
}

int router_forward(const Context* context, const RouterForward* params) {
  const RouterForward& p = *params;
  if (p.logits.dtype != kF32 || p.probs.dtype != kF32)
    return fail("[router] expected f32, got %s and %s", dtype_name(p.logits.dtype), dtype_name(p.probs.dtype));
  const int64_t C = p.probs.cols;
  parallel_segment_rows(context, p.segments, p.probs.rows, [&](int64_t n) {
    const float* logits = row_of<float>(p.logits, n);
    float* probs = row_of<float>(p.probs, n);
    Vec largest = set1(-__builtin_inff()), sum = zero();
    for_columns(C, [&](int64_t e, auto part) {
      largest = max(or_else(load(logits + e, part), part, -__builtin_inff()), largest);
    });
    const Vec bound = set1(reduce_max(largest));
    for_columns(C, [&](int64_t e, auto part) {
      Vec value = exp(or_else(load(logits + e, part) - bound, part, -__builtin_inff()));
      sum = sum + value;
      store(probs + e, value, part);
    });
    const Vec scale = set1(1.f / reduce_add(sum));
    for_columns(C, [&](int64_t e, auto part) { store(probs + e, load(probs + e, part) * scale, part); });
  });
  return 0;
}

int router_backward(const Context* context, const RouterBackward* params) {
  const RouterBackward& p = *params;
  if (p.probs.dtype != kF32 || p.d_logits.dtype != kF32)
    return fail("[router] expected f32, got %s and %s", dtype_name(p.probs.dtype), dtype_name(p.d_logits.dtype));
  const int64_t C = p.probs.cols;
  const float balance_scale = static_cast<float>(p.balance_scale);
  parallel_segment_rows(context, p.segments, p.probs.rows, [&](int64_t n) {
    const int32_t* place = p.place + n * p.place_stride;
    float gradient[kMaxExperts];
    for (int64_t e = 0; e < C; e++)
      gradient[e] = (p.d_balance ? balance_scale * p.d_balance[e] : 0.f) + (place[e] < 0 ? 0.f : p.d_gate[place[e]]);
    const float* probs = row_of<float>(p.probs, n);
    float* d_logits = row_of<float>(p.d_logits, n);
    const Vec mean = set1(reduce_add(sum_columns(
        C, [&](Vec sum, int64_t e, auto part) { return fma(load(probs + e, part), load(gradient + e, part), sum); })));
    for_columns(C, [&](int64_t e, auto part) {
      store(d_logits + e, load(probs + e, part) * (load(gradient + e, part) - mean), part);
    });
  });
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
