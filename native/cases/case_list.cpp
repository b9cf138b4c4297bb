#include <algorithm>

#include "cases/case_types.h"
#include "core/error.h"

namespace mot {

namespace {

// Sizes of a case by name, for those who are to do the same work by other means; sizes that an op does not have are
// left out. Widths are those of the case's tensors: in_features and out_features of a matrix product.
void add_shape(OpCase& c) {
  auto& shape = c.info.shape;
  auto add = [&](const char* name, int64_t size) {
    if (size > 0) shape.push_back({name, size});
  };
  const OpLimits& l = c.limits;
  int64_t towers = 0, elements = 0, documents = 0;
  for (const CaseTensor& t : c.tensors) {
    towers = std::max(towers, t.towers);
    elements = std::max(elements, t.cols);
    if (t.name != "kv_start") continue;
    for (size_t i = 0; i < t.ints.size(); i++) documents += i == 0 || t.ints[i] != t.ints[i - 1];
  }
  const bool flat = c.info.op == "adamw" || c.info.op == "ema" || c.info.op == "grad_norm";
  if (flat) return add("elements", elements);
  add("rows", l.rows), add("slots", l.slots), add("documents", documents), add("towers", towers);
  add("in_features", l.in_features), add("out_features", l.out_features), add("d_model", l.d_model);
  add("heads", l.heads), add("kv_heads", l.kv_heads), add("head_dim", l.head_dim), add("vocab", l.vocab);
}

}  // namespace

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> cases = [] {
    std::vector<OpCase> list;
    add_embedding_cases(list);
    add_rms_norm_cases(list);
    add_grouped_gemm_cases(list);
    add_qk_norm_rope_cases(list);
    add_attention_cases(list);
    add_swiglu_cases(list);
    add_router_cases(list);
    add_routing_cases(list);
    add_dispatch_cases(list);
    add_linear_cross_entropy_cases(list);
    add_silu_cases(list);
    add_squared_error_cases(list);
    add_grad_norm_cases(list);
    add_adamw_cases(list);
    add_ema_cases(list);
    for (OpCase& c : list) add_shape(c);
    return list;
  }();
  return cases;
}

const OpCase& find_case(const std::string& name) {
  for (const OpCase& c : op_cases())
    if (c.info.name == name) return c;
  throw errorf("ERR_ARGUMENT", "there is no op case named %s; see the list of cases", name.c_str());
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
