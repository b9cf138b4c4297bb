#include "cases/case_types.h"

namespace mot {

void add_squared_error_cases(std::vector<OpCase>& list) {
  struct Size {
    const char* name;
    int64_t rows, width, pad;
    bool in_place = false;  // d_x is x
  };
  for (Size s : {Size{"none", 0, 8, 0},
                 {"one", 1, 1, 0},
                 {"odd_width", 33, 37, 0},
                 {"strided", 65, 48, 5},
                 {"wide", 9, 1200, 0},
                 {"in_place", 70, 12, 3, true},
                 {"bench", 262144, 32, 0}}) {
    OpCase c;
    const double values = static_cast<double>(s.rows * s.width);
    c.info = {"squared_error", std::string("squared_error/") + s.name, 3 * values, 8 * values, 4 * values, 12 * values};
    c.tensors = {{"x", s.rows, s.width, s.in_place ? Role::kAccumulate : Role::kInput, Store::kWide, 1, s.pad},
                 {"target", s.rows, s.width, Role::kInput, Store::kWide, 1, s.pad},
                 {"row_scale", s.rows, 1, Role::kInput, Store::kWide, 1, 0, 0.3, 1},
                 {"error", s.rows, 1, Role::kOutput},
                 {"d_x", s.rows, s.width, Role::kOutput, Store::kWide, 1, s.pad}};
    auto call = [](const OpTable& ops, const Context& context, CaseArgs& args, const char* d_x) {
      SquaredError p = {args.matrix("x"), args.matrix("target"), args.wide("row_scale"), args.wide("error"), {}};
      if (d_x) p.d_x = args.matrix(d_x);
      return ops.squared_error(&context, &p);
    };
    c.forward = [call](const OpTable& ops, const Context& context, CaseArgs& args) {
      return call(ops, context, args, nullptr);
    };
    c.backward = [call, d_x = s.in_place ? "x" : "d_x"](const OpTable& ops, const Context& context, CaseArgs& args) {
      return call(ops, context, args, d_x);
    };
    if (s.in_place) c.tensors.pop_back();
    // row_scale is the gradient of the objective with respect to each row's error.
    if (!s.in_place) c.outputs = {{"error", "row_scale"}}, c.gradients = {{"x", "d_x"}};
    c.limits.rows = s.rows, c.limits.in_features = s.width;
    list.push_back(c);
  }
}

}  // namespace mot
