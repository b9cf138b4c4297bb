#include "cases/case_types.h"

namespace mot {

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> cases = [] {
    std::vector<OpCase> list;
    add_embedding_cases(list);
    add_rms_norm_cases(list);
    add_grouped_gemm_cases(list);
    add_qk_norm_rope_cases(list);
    add_attention_cases(list);
    add_swiglu_cases(list);
    add_linear_cross_entropy_cases(list);
    add_grad_norm_cases(list);
    add_adamw_cases(list);
    return list;
  }();
  return cases;
}

std::vector<Segment> uneven_segments(int64_t rows, int64_t towers, int64_t padding) {
  const int32_t n = static_cast<int32_t>(rows - padding), last = static_cast<int32_t>(towers - 1);
  if (n < 8) return {{0, n, last}};
  const int32_t a = n / 5, b = a + n / 2;
  std::vector<Segment> segments = {{0, 1, last}, {1, a, 0}, {a, a, 0}, {a, b, last}};
  // Padding between groups too: that is where row alignment puts it.
  const int32_t gap = padding > 1 ? 1 : 0;
  segments.push_back({b + gap, n + gap, towers > 2 ? 1 : 0});
  return segments;
}

}  // namespace mot
