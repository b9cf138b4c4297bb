#include "cases/case_types.h"

namespace mot {

namespace {

struct Size {
  const char* name;
  int64_t rows, d_model, columns, padding, pad;
  bool addend;
  bool in_place = false;  // the addend is out
  bool wide = false;      // everything f32
};

OpCase make(const Size& s) {
  // Row n goes to every third place or so, from none to all of them; some routed rows are padding.
  const std::vector<Segment> segments = uneven_segments(s.rows, 3, s.padding);
  std::vector<int32_t> place(static_cast<size_t>(s.rows * s.columns), -1), row;
  for (int64_t e = 0; e < s.columns; e++) {
    for (const Segment& segment : segments)
      for (int64_t n = segment.begin; n < segment.end; n++) {
        if ((n * 3 + e * 5) % 7 > 3 && s.columns > 1) continue;
        place[static_cast<size_t>(n * s.columns + e)] = static_cast<int32_t>(row.size());
        row.push_back(static_cast<int32_t>(n));
      }
    if (s.rows > 1) row.push_back(-1);
  }
  const auto routed = static_cast<int64_t>(row.size());

  OpCase c;
  const double values = static_cast<double>(routed * s.d_model);
  c.info = {"dispatch", std::string("dispatch/") + s.name, 0, 8 * values, values, 8 * values};
  const Store store = s.wide ? Store::kWide : Store::kOperand;
  c.tensors = {{"x", s.rows, s.d_model, Role::kInput, store, 1, s.pad},
               {"row", 1, routed, Role::kInput, Store::kInt},
               {"place", s.rows, s.columns, Role::kInput, Store::kInt},
               {"out", routed, s.d_model, Role::kOutput, Store::kOperand, 1, s.pad},
               {"d_out", routed, s.d_model, Role::kInput, store, 1, s.pad},
               {"d_x", s.rows, s.d_model, s.in_place ? Role::kAccumulate : Role::kOutput,
                s.in_place ? Store::kWide : store, 1, s.pad}};
  c.tensors[1].ints = row, c.tensors[2].ints = place;
  if (s.addend) c.tensors.push_back({"addend", s.rows, s.d_model, Role::kInput, Store::kWide, 1, s.pad});
  c.forward = [](const OpTable& ops, const Context& context, CaseArgs& args) {
    DispatchCopy p = {args.matrix("x"), args.ints("row"), args.matrix("out")};
    return ops.dispatch_copy(&context, &p);
  };
  c.backward = [segments, columns = s.columns, addend = s.in_place ? "d_x" : "addend"](
                   const OpTable& ops, const Context& context, CaseArgs& args) {
    DispatchSum p = {
        args.matrix("d_out"), args.ints("place"), columns,
        args.matrix(addend),  args.matrix("d_x"), {segments.data(), static_cast<int64_t>(segments.size())}};
    return ops.dispatch_sum(&context, &p);
  };
  if (!s.addend) c.outputs = {{"out", "d_out"}}, c.gradients = {{"x", "d_x"}};
  c.limits.rows = s.rows > routed ? s.rows : routed, c.limits.d_model = s.d_model;
  return c;
}

}  // namespace

void add_dispatch_cases(std::vector<OpCase>& list) {
  for (const Size& s : {Size{"none", 0, 8, 4, 0, 0, false},
                        {"one_row", 1, 8, 1, 0, 0, false},
                        {"one_column", 40, 37, 1, 0, 2, false},
                        {"four_columns", 65, 48, 4, 6, 3, false},
                        {"addend", 66, 33, 3, 5, 1, true},
                        {"in_place", 71, 40, 5, 4, 2, false, true},
                        {"wide", 130, 72, 4, 0, 0, false, false, true},
                        {"bench", 8192, 768, 2, 0, 0, false}})
    list.push_back(make(s));
}

}  // namespace mot
