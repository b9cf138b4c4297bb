#include <algorithm>

#include "cases/case_types.h"

namespace mot {

namespace {

struct Size {
  const char* name;
  int64_t rows, d_model, towers, padding, pad;
  bool residual, accumulate;
  bool in_place = false;     // the residual is out, d_x is d_out
  int64_t segment_rows = 0;  // 0: one segment a tower, about
};

OpCase make(const Size& s) {
  OpCase c;
  const double values = static_cast<double>(s.rows * s.d_model);
  c.info = {"rms_norm", std::string("rms_norm/") + s.name, 4 * values, 12 * values, 8 * values, 12 * values};
  c.tensors = {{"x", s.rows, s.d_model, Role::kInput, Store::kOperand, 1, s.pad},
               {"weight", 1, s.d_model, Role::kInput, Store::kWide, s.towers, 0, 0.3, 1},
               {"out", s.rows, s.d_model, s.in_place ? Role::kAccumulate : Role::kOutput, Store::kWide, 1, s.pad},
               {"out_copy", s.rows, s.d_model, Role::kOutput, Store::kOperand, 1, s.pad},
               {"rstd", s.rows, 1, Role::kOutput},
               {"d_out", s.rows, s.d_model, s.in_place ? Role::kAccumulate : Role::kInput, Store::kWide, 1, s.pad},
               {"d_x", s.rows, s.d_model, s.accumulate ? Role::kAccumulate : Role::kOutput,
                s.accumulate ? Store::kWide : Store::kOperand, 1, s.pad},
               {"d_weight", 1, s.d_model, Role::kAccumulate, Store::kWide, s.towers}};
  if (s.residual) c.tensors.push_back({"residual", s.rows, s.d_model, Role::kInput, Store::kWide, 1, s.pad});
  std::vector<Segment> segments = uneven_segments(s.rows, s.towers, s.padding);
  if (s.segment_rows) segments.clear();
  for (int32_t n = 0; s.segment_rows && n < s.rows; n += static_cast<int32_t>(s.segment_rows))
    segments.push_back({n, static_cast<int32_t>(std::min(s.rows, n + s.segment_rows)),
                        static_cast<int32_t>(n / s.segment_rows * 2 % s.towers)});
  c.forward = [segments, residual = s.in_place ? "out" : "residual"](const OpTable& ops, const Context& context,
                                                                     CaseArgs& args) {
    // Padding rows of rstd are undefined by contract: written here so that they compare equal.
    RmsNormForward p = {args.matrix("x"),
                        args.towers("weight"),
                        args.matrix(residual),
                        args.matrix("out"),
                        args.matrix("out_copy"),
                        args.wide("rstd"),
                        {segments.data(), static_cast<int64_t>(segments.size())},
                        1e-5};
    int status = ops.rms_norm_forward(&context, &p);
    int64_t next = 0;
    auto fill = [&](int64_t end) {
      for (; next < end; next++) args.dtype() == kF64 ? reinterpret_cast<double*>(p.rstd)[next] = 0 : p.rstd[next] = 0;
    };
    for (const Segment& segment : segments) fill(segment.begin), next = segment.end;
    fill(p.x.rows);
    return status;
  };
  c.backward = [segments, d_x = s.in_place ? "d_out" : "d_x", accumulate = s.accumulate](
                   const OpTable& ops, const Context& context, CaseArgs& args) {
    RmsNormBackward p = {args.matrix("x"),        args.towers("weight"),
                         args.wide("rstd"),       args.matrix("d_out"),
                         args.matrix(d_x),        accumulate,
                         args.towers("d_weight"), {segments.data(), static_cast<int64_t>(segments.size())}};
    return ops.rms_norm_backward(&context, &p);
  };
  // In place, d_out is gone when its gradients could be checked, and nothing writes d_x.
  if (s.in_place) std::erase_if(c.tensors, [](const CaseTensor& t) { return t.name == "d_x"; });
  if (!s.in_place) c.outputs = {{"out", "d_out"}}, c.gradients = {{"x", "d_x"}, {"weight", "d_weight"}};
  c.limits.rows = s.rows, c.limits.d_model = s.d_model;
  return c;
}

}  // namespace

void add_rms_norm_cases(std::vector<OpCase>& list) {
  for (const Size& s : {Size{"none", 0, 16, 2, 0, 0, false, false},
                        {"one_row", 1, 8, 1, 0, 0, false, false},
                        {"odd_width", 19, 37, 2, 0, 0, true, false},
                        {"one_tower", 64, 72, 1, 0, 0, true, true},
                        {"three_towers_padding", 65, 48, 3, 6, 4, false, true},
                        {"strided_residual", 130, 320, 4, 5, 3, true, false},
                        {"many_rows", 700, 40, 3, 1, 0, true, true},
                        {"short_segments", 700, 40, 3, 0, 0, false, false, false, 2},
                        {"in_place", 67, 56, 3, 4, 2, false, false, true},
                        {"bench", 16384, 1024, 3, 0, 0, true, false}})
    list.push_back(make(s));
}

}  // namespace mot
