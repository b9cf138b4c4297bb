// Contract: ops/dispatch.h. Copies and sums of rows: memory limits them.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

int64_t dispatch_workspace(const OpLimits&) { return 0; }

int dispatch_copy(const Context* context, const DispatchCopy* params) {
  const DispatchCopy& p = *params;
  if (!is_f32_or_bf16(p.x) || !is_f32_or_bf16(p.out))
    return fail("[dispatch] expected f32 or bf16, got %s and %s", dtype_name(p.x.dtype), dtype_name(p.out.dtype));
  const int64_t D = p.out.cols;
  parallel_rows(context, p.out.rows, [&](int64_t begin, int64_t end) {
    with_type(p.x.dtype, [&](auto x_type) {
      with_type(p.out.dtype, [&](auto out_type) {
        for (int64_t r = begin; r < end; r++) {
          if (p.row[r] < 0) {
            zero_rows(p.out, r, r + 1);
            continue;
          }
          const auto* x = row_of<decltype(x_type)>(p.x, p.row[r]);
          auto* out = row_of<decltype(out_type)>(p.out, r);
          for_columns(D, [&](int64_t d, auto part) { store(out + d, load(x + d, part), part); });
        }
      });
    });
  });
  return 0;
}

template <class X, class Out>
static void sum_row(const DispatchSum& p, int64_t n) {
  int32_t places[kMaxExperts];
  int64_t count = 0;
  for (int64_t e = 0; e < p.columns; e++)
    if (int32_t place = p.place[n * p.columns + e]; place >= 0) places[count++] = place;
  Out* out = row_of<Out>(p.out, n);
  const float* addend = given(p.addend) ? row_of<float>(p.addend, n) : nullptr;
  for_columns(p.out.cols, [&](int64_t d, auto part) {
    Vec sum = zero();
    if (count > 0) sum = load(row_of<X>(p.x, places[0]) + d, part);
    for (int64_t i = 1; i < count; i++) sum = sum + load(row_of<X>(p.x, places[i]) + d, part);
    store(out + d, addend ? sum + load(addend + d, part) : sum, part);
  });
}

int dispatch_sum(const Context* context, const DispatchSum* params) {
  const DispatchSum& p = *params;
  if (!is_f32_or_bf16(p.x) || !is_f32_or_bf16(p.out))
    return fail("[dispatch] expected f32 or bf16, got %s and %s", dtype_name(p.x.dtype), dtype_name(p.out.dtype));
  const bool in_place = given(p.addend) && p.addend.data == p.out.data;
  parallel_rows(context, p.out.rows, [&](int64_t begin, int64_t end) {
    for_runs(p.segments, begin, end, [&](int64_t first, int64_t last, int64_t tower) {
      if (tower < 0) {
        if (!in_place) zero_rows(p.out, first, last);
        return;
      }
      with_type(p.x.dtype, [&](auto x_type) {
        with_type(p.out.dtype, [&](auto out_type) {
          for (int64_t n = first; n < last; n++) sum_row<decltype(x_type), decltype(out_type)>(p, n);
        });
      });
    });
  });
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
