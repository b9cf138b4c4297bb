#include "cases/case_types.h"

namespace mot {

void add_grad_norm_cases(std::vector<OpCase>& list) {
  struct Size {
    const char* name;
    int64_t count;
  };
  for (Size s : {Size{"none", 0}, {"one", 1}, {"odd", 4099}, {"several_blocks", 123457}, {"bench", 64000000}}) {
    OpCase c;
    c.info = {"grad_norm",
              std::string("grad_norm/") + s.name,
              2.0 * static_cast<double>(s.count),
              4.0 * static_cast<double>(s.count),
              0,
              0};
    c.tensors = {{"grad", 1, s.count}, {"sum_of_squares", 1, 1, Role::kOutput, Store::kDouble}};
    c.f64 = false;
    c.forward = [count = s.count](const OpTable& ops, const Context& context, CaseArgs& args) {
      GradNorm p = {args.wide("grad"), count, args.doubles("sum_of_squares")};
      return ops.grad_norm(&context, &p);
    };
    c.limits.rows = 1;
    list.push_back(c);
  }
}

}  // namespace mot
