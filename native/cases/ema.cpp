#include "cases/case_types.h"

namespace mot {

void add_ema_cases(std::vector<OpCase>& list) {
  struct Size {
    const char* name;
    int64_t count;
    double decay;
  };
  for (Size s : {Size{"none", 0, 0.9},
                 {"one", 1, 0.9},
                 {"decay_0", 4099, 0},
                 {"decay_1", 4099, 1},
                 {"several_blocks", 131075, 0.75},
                 {"late", 70001, 0.9999},
                 {"bench", 16000000, 0.999}}) {
    OpCase c;
    const double count = static_cast<double>(s.count);
    c.info = {"ema", std::string("ema/") + s.name, 3 * count, 12 * count, 0, 0};
    c.tensors = {{"average", 1, s.count, Role::kAccumulate}, {"value", 1, s.count}};
    c.f64 = false;
    c.forward = [s](const OpTable& ops, const Context& context, CaseArgs& args) {
      Ema p = {args.wide("average"), args.wide("value"), s.count, s.decay};
      return ops.ema(&context, &p);
    };
    c.limits.rows = 1;
    list.push_back(c);
  }
}

}  // namespace mot
