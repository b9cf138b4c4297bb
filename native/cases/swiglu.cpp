#include "cases/case_types.h"

namespace mot {

void add_swiglu_cases(std::vector<OpCase>& list) {
  struct Size {
    const char* name;
    int64_t rows, ffn, pad;
    double scale;
    bool in_place = false;  // d_gate_up is gate_up
    bool scaled = false;
  };
  for (Size s : {Size{"none", 0, 8, 0, 1},
                 {"one", 1, 8, 0, 1},
                 {"odd_width", 33, 37, 0, 2},
                 {"strided", 65, 100, 5, 1},
                 {"saturated", 40, 64, 0, 40},
                 {"many_rows", 700, 48, 0, 1},
                 {"in_place", 41, 37, 3, 1, true},
                 {"scaled", 70, 101, 3, 1, false, true},
                 {"scaled_in_place", 41, 37, 0, 1, true, true},
                 {"bench", 8192, 2048, 0, 1}}) {
    OpCase c;
    const double values = static_cast<double>(s.rows * s.ffn);
    c.info = {"swiglu", std::string("swiglu/") + s.name, 10 * values, 12 * values, 20 * values, 20 * values};
    c.tensors = {{"gate_up", s.rows, 2 * s.ffn, s.in_place ? Role::kAccumulate : Role::kInput, Store::kOperand, 1,
                  s.pad, s.scale},
                 {"out", s.rows, s.ffn, Role::kOutput, Store::kOperand, 1, s.pad},
                 {"d_out", s.rows, s.ffn, Role::kInput, Store::kOperand, 1, s.pad},
                 {"d_gate_up", s.rows, 2 * s.ffn, Role::kOutput, Store::kOperand, 1, s.pad}};
    if (s.scaled) {
      c.tensors.insert(c.tensors.begin(), {{"row_scale", s.rows, 1, Role::kInput, Store::kWide, 1, 0, 0.3, 0.5},
                                           {"d_row_scale", s.rows, 1, Role::kOutput}});
      // A sum of products of what is stored as operands, and so no more exact than its terms are large.
      c.tensors[1].slack = 10;
    }
    c.forward = [scaled = s.scaled](const OpTable& ops, const Context& context, CaseArgs& args) {
      SwigluForward p = {args.matrix("gate_up"), args.matrix("out"), scaled ? args.wide("row_scale") : nullptr};
      return ops.swiglu_forward(&context, &p);
    };
    c.backward = [d_gate_up = s.in_place ? "gate_up" : "d_gate_up", scaled = s.scaled](
                     const OpTable& ops, const Context& context, CaseArgs& args) {
      SwigluBackward p = {args.matrix("gate_up"), args.matrix("d_out"), args.matrix(d_gate_up),
                          scaled ? args.wide("row_scale") : nullptr, scaled ? args.wide("d_row_scale") : nullptr};
      return ops.swiglu_backward(&context, &p);
    };
    if (s.in_place) c.tensors.pop_back();
    if (!s.in_place) c.outputs = {{"out", "d_out"}}, c.gradients = {{"gate_up", "d_gate_up"}};
    if (s.scaled && !s.in_place) c.gradients.push_back({"row_scale", "d_row_scale"});
    c.limits.rows = s.rows, c.limits.out_features = 2 * s.ffn, c.limits.in_features = s.ffn;
    list.push_back(c);
  }
}

}  // namespace mot
