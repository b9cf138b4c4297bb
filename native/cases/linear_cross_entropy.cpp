#include "cases/case_types.h"

namespace mot {

namespace {

struct Size {
  const char* name;
  int64_t rows, d_model, vocab, pad;
  double z_loss, scale;
  int64_t every;  // rows with n % every == 1 have no target
};

OpCase make(const Size& s) {
  OpCase c;
  const double flops = 2.0 * static_cast<double>(s.rows) * static_cast<double>(s.d_model * s.vocab);
  const double bytes = 4.0 * static_cast<double>(s.rows * s.d_model + s.vocab * s.d_model);
  c.info = {"linear_cross_entropy", std::string("linear_cross_entropy/") + s.name, flops, bytes, 3 * flops, 3 * bytes};
  c.tensors = {{"x", s.rows, s.d_model, Role::kInput, Store::kOperand, 1, s.pad, s.scale},
               {"weight", s.vocab, s.d_model, Role::kInput, Store::kWide, 1, 0, 0.3},
               {"target", 1, s.rows, Role::kInput, Store::kInt},
               {"row_scale", s.rows, 1, Role::kInput, Store::kWide, 1, 0, 0.3, 1},
               {"ce", s.rows, 1, Role::kOutput},
               {"lse", s.rows, 1, Role::kOutput},
               {"loss", s.rows, 1, Role::kOutput, Store::kDouble},
               {"d_x", s.rows, s.d_model, Role::kOutput, Store::kWide, 1, s.pad},
               {"d_weight", s.vocab, s.d_model, Role::kAccumulate}};
  for (int64_t n = 0; n < s.rows; n++)
    c.tensors[2].ints.push_back(n % s.every == 1 ? -1 : static_cast<int32_t>((n * 7919 + s.vocab - 1) % s.vocab));
  c.tensors[1].operand = true;
  for (CaseTensor& t : c.tensors) {
    if (t.name == "d_x" || t.name == "d_weight") t.rounded = true, t.slack = s.scale > 10 ? 6 : 3;
    if (t.name == "ce" || t.name == "lse") t.slack = 2, t.floor = 1;
    if (t.name == "loss") t.slack = 1e5, t.floor = 1;  // made of ce and lse, which are f32
  }
  auto call = [s](const OpTable& ops, const Context& context, CaseArgs& args, bool gradients) {
    LinearCrossEntropy p = {
        args.matrix("x"), args.matrix("weight"), args.ints("target"), args.wide("row_scale"),  s.z_loss,
        args.wide("ce"),  args.wide("lse"),      args.matrix("d_x"),  args.matrix("d_weight"), args.dtype()};
    if (!gradients) p.d_x.data = p.d_weight.data = nullptr;
    int status = ops.linear_cross_entropy(&context, &p);
    // The objective whose gradient the op gives, for finite differences.
    for (int64_t n = 0; n < s.rows; n++) {
      auto at = [&](const char* name) {
        return args.dtype() == kF64 ? reinterpret_cast<double*>(args.wide(name))[n]
                                    : static_cast<double>(args.wide(name)[n]);
      };
      const double target = args.ints("target")[n] < 0 ? 0 : 1;
      args.doubles("loss")[n] = target * at("row_scale") * (at("ce") + s.z_loss * at("lse") * at("lse"));
    }
    return status;
  };
  c.forward = [call](const OpTable& ops, const Context& context, CaseArgs& args) {
    return call(ops, context, args, false);
  };
  c.backward = [call](const OpTable& ops, const Context& context, CaseArgs& args) {
    return call(ops, context, args, true);
  };
  c.tensors.push_back({"one", s.rows, 1, Role::kInput, Store::kDouble, 1, 0, 0, 1});
  c.outputs = {{"loss", "one"}};
  c.gradients = {{"x", "d_x"}, {"weight", "d_weight"}};
  c.limits.rows = s.rows, c.limits.d_model = s.d_model, c.limits.vocab = s.vocab;
  c.limits.in_features = s.d_model, c.limits.out_features = s.vocab;
  return c;
}

}  // namespace

void add_linear_cross_entropy_cases(std::vector<OpCase>& list) {
  for (const Size& s : {Size{"none", 0, 16, 17, 0, 0, 1, 5},
                        {"one", 1, 8, 5, 0, 1e-3, 1, 5},
                        {"z_loss", 37, 40, 97, 0, 1e-2, 1, 4},
                        {"strided", 65, 72, 211, 3, 1e-4, 1, 3},
                        {"few_targets", 20, 32, 131, 0, 0, 1, 2},
                        {"large_logits", 33, 64, 100, 0, 1e-4, 25, 6},
                        {"several_chunks", 700, 24, 1500, 0, 1e-4, 1, 9},
                        {"deep", 300, 1101, 70, 0, 1e-4, 0.2, 9},
                        {"bench_2048_512_4096", 2048, 512, 4096, 0, 1e-4, 0.1, 1 << 20},
                        {"bench_1024_1024_16384", 1024, 1024, 16384, 0, 1e-4, 0.1, 1 << 20}})
    list.push_back(make(s));
}

}  // namespace mot
