#include "cases/case_types.h"

namespace mot {

void add_adamw_cases(std::vector<OpCase>& list) {
  struct Size {
    const char* name;
    int64_t count, step;
    double grad_scale;
    double eps = 1e-8;
  };
  for (Size s : {Size{"first_step", 1000, 1, 1},
                 {"clipped", 4099, 7, 0.03, 1e-2},
                 {"late", 70001, 100000, 1},
                 {"bench", 16000000, 10, 1}}) {
    OpCase c;
    const double count = static_cast<double>(s.count);
    c.info = {"adamw", std::string("adamw/") + s.name, 12 * count, 28 * count, 0, 0};
    c.tensors = {{"weight", 1, s.count, Role::kAccumulate},
                 {"grad", 1, s.count},
                 {"m", 1, s.count, Role::kAccumulate, Store::kWide, 1, 0, 0.1},
                 {"v", 1, s.count, Role::kAccumulate}};
    c.f64 = false;
    for (int64_t i = 0; i < 101; i++) c.tensors[3].values.push_back(0.01 + static_cast<double>(i * 37 % 101) / 50);
    // Ranges of odd ends, decaying or not, with gaps that must stay untouched.
    std::vector<AdamwRange> ranges = {{0, s.count / 3, 1},
                                      {s.count / 3, s.count / 3, 0},
                                      {s.count / 3 + 5, s.count / 2, 0},
                                      {s.count / 2, s.count - 3, 1}};
    c.forward = [s, ranges](const OpTable& ops, const Context& context, CaseArgs& args) {
      Adamw p = {args.wide("weight"),
                 args.wide("grad"),
                 args.wide("m"),
                 args.wide("v"),
                 ranges.data(),
                 static_cast<int64_t>(ranges.size()),
                 1e-2,
                 0.9,
                 0.95,
                 s.eps,
                 0.1,
                 s.grad_scale,
                 s.step};
      return ops.adamw(&context, &p);
    };
    c.limits.rows = 1;
    list.push_back(c);
  }
}

}  // namespace mot
