#include "cases/case_types.h"

namespace mot {

void add_silu_cases(std::vector<OpCase>& list) {
  struct Size {
    const char* name;
    int64_t rows, d_model, pad;
    double scale;
    bool in_place = false;  // d_x is d_out
  };
  for (Size s : {Size{"none", 0, 8, 0, 1},
                 {"one", 1, 8, 0, 1},
                 {"odd_width", 33, 37, 0, 2},
                 {"strided", 65, 100, 5, 1},
                 {"saturated", 40, 64, 0, 40},
                 {"in_place", 41, 37, 3, 1, true},
                 {"bench", 8192, 2048, 0, 1}}) {
    OpCase c;
    const double values = static_cast<double>(s.rows * s.d_model);
    c.info = {"silu", std::string("silu/") + s.name, 4 * values, 8 * values, 8 * values, 12 * values};
    c.tensors = {{"x", s.rows, s.d_model, Role::kInput, Store::kOperand, 1, s.pad, s.scale},
                 {"out", s.rows, s.d_model, Role::kOutput, Store::kOperand, 1, s.pad},
                 {"d_out", s.rows, s.d_model, s.in_place ? Role::kAccumulate : Role::kInput, Store::kWide, 1, s.pad},
                 {"d_x", s.rows, s.d_model, Role::kOutput, Store::kWide, 1, s.pad}};
    c.forward = [](const OpTable& ops, const Context& context, CaseArgs& args) {
      SiluForward p = {args.matrix("x"), args.matrix("out")};
      return ops.silu_forward(&context, &p);
    };
    c.backward = [d_x = s.in_place ? "d_out" : "d_x"](const OpTable& ops, const Context& context, CaseArgs& args) {
      SiluBackward p = {args.matrix("x"), args.matrix("d_out"), args.matrix(d_x)};
      return ops.silu_backward(&context, &p);
    };
    if (s.in_place) c.tensors.pop_back();
    if (!s.in_place) c.outputs = {{"out", "d_out"}}, c.gradients = {{"x", "d_x"}};
    c.limits.rows = s.rows, c.limits.d_model = s.d_model;
    list.push_back(c);
  }
}

}  // namespace mot
