#include "cases/case_types.h"

namespace mot {

namespace {

struct Size {
  const char* name;
  int64_t rows, experts, padding, columns;  // columns: of place, experts or more
  bool balance, checked;  // checked: every probability has a gate, so that the gradient can be checked
};

OpCase make(const Size& s) {
  OpCase c;
  const double values = static_cast<double>(s.rows * s.experts);
  c.info = {"router", std::string("router/") + s.name, 5 * values, 8 * values, 5 * values, 16 * values};
  const std::vector<Segment> segments = uneven_segments(s.rows, 3, s.padding);
  // Where every probability has its own gate, d_gate is the gradient of probs.
  std::vector<int32_t> place(static_cast<size_t>(s.rows * s.columns), -1);
  for (int64_t n = 0; n < s.rows; n++)
    for (int64_t e = 0; e < s.experts; e++)
      if (s.checked || (n * 7 + e * 3) % 5 < 2)
        place[static_cast<size_t>(n * s.columns + e)] = static_cast<int32_t>(n * s.experts + e);
  c.tensors = {{"logits", s.rows, s.experts, Role::kInput, Store::kWide, 1, 0, 3},
               {"probs", s.rows, s.experts, Role::kAccumulate},
               {"place", s.rows, s.columns, Role::kInput, Store::kInt},
               {"d_gate", s.rows, s.experts},
               {"d_logits", s.rows, s.experts, s.padding ? Role::kAccumulate : Role::kOutput}};
  c.tensors[2].ints = place;
  c.tensors[4].slack = 4;  // differences of numbers that are near to each other
  if (s.balance) c.tensors.push_back({"d_balance", 1, s.experts});
  c.forward = [segments](const OpTable& ops, const Context& context, CaseArgs& args) {
    RouterForward p = {
        args.matrix("logits"), args.matrix("probs"), {segments.data(), static_cast<int64_t>(segments.size())}};
    return ops.router_forward(&context, &p);
  };
  c.backward = [segments, columns = s.columns, balance = s.balance](const OpTable& ops, const Context& context,
                                                                    CaseArgs& args) {
    RouterBackward p = {args.matrix("probs"),
                        args.ints("place"),
                        columns,
                        args.wide("d_gate"),
                        balance ? args.wide("d_balance") : nullptr,
                        0.7,
                        args.matrix("d_logits"),
                        {segments.data(), static_cast<int64_t>(segments.size())}};
    return ops.router_backward(&context, &p);
  };
  // Untouched rows keep what they held before, which no difference quotient sees.
  if (s.checked && s.padding == 0) c.outputs = {{"probs", "d_gate"}}, c.gradients = {{"logits", "d_logits"}};
  c.limits.rows = s.rows;
  return c;
}

}  // namespace

void add_router_cases(std::vector<OpCase>& list) {
  for (const Size& s : {Size{"none", 0, 4, 0, 4, false, false},
                        {"one_row", 1, 4, 0, 4, false, true},
                        {"one_expert", 40, 1, 0, 3, false, true},
                        {"four", 90, 4, 0, 4, false, true},
                        {"padding_balance", 65, 5, 7, 8, true, false},
                        {"seventeen", 70, 17, 0, 17, false, true},
                        {"many", 33, 256, 0, 256, true, false},
                        {"bench", 1048576, 8, 0, 8, false, false}})
    list.push_back(make(s));
}

}  // namespace mot
