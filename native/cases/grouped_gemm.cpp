#include "cases/case_types.h"

namespace mot {

namespace {

struct Size {
  const char* name;
  int64_t rows, in, out, towers, padding, pad;
  bool residual, accumulate, wide;  // wide: y and d_x are f32 whatever the operands
  bool in_place = false;            // the residual is y
  bool bias = false;                // the residual is one row, for all
};

OpCase make(const Size& s, std::vector<Segment> segments = {}) {
  if (segments.empty()) segments = uneven_segments(s.rows, s.towers, s.padding);
  OpCase c;
  const double flops = 2.0 * static_cast<double>(s.rows) * static_cast<double>(s.in * s.out);
  const double bytes = 4.0 * static_cast<double>(s.rows * (s.in + s.out) + s.towers * s.in * s.out);
  c.info = {"grouped_gemm", std::string("grouped_gemm/") + s.name, flops, bytes, 2 * flops, 2 * bytes};
  const Store result = s.wide || s.residual || s.in_place ? Store::kWide : Store::kOperand;
  const Store d_result = s.wide || s.accumulate ? Store::kWide : Store::kOperand;
  c.tensors = {{"x", s.rows, s.in, Role::kInput, Store::kOperand, 1, s.pad},
               {"weight", s.out, s.in, Role::kInput, Store::kWide, s.towers, 0, 0.2},
               {"y", s.rows, s.out, s.in_place ? Role::kAccumulate : Role::kOutput, result, 1, s.pad},
               {"d_y", s.rows, s.out, Role::kInput, Store::kOperand, 1, s.pad},
               {"d_x", s.rows, s.in, s.accumulate ? Role::kAccumulate : Role::kOutput, d_result, 1, s.pad},
               {"d_w", s.out, s.in, Role::kAccumulate, Store::kWide, s.towers}};
  c.tensors[1].operand = true;
  if (s.residual) c.tensors.push_back({"residual", s.bias ? 1 : s.rows, s.out, Role::kInput, Store::kWide, 1, s.pad});
  c.forward = [segments, residual = s.in_place ? "y" : "residual", bias = s.bias](
                  const OpTable& ops, const Context& context, CaseArgs& args) {
    GroupedGemmForward p = {args.matrix("x"),
                            args.towers("weight"),
                            args.matrix(residual),
                            args.matrix("y"),
                            {segments.data(), static_cast<int64_t>(segments.size())},
                            args.dtype()};
    if (bias) p.residual.stride = 0;
    return ops.grouped_gemm_forward(&context, &p);
  };
  c.backward = [segments, accumulate = s.accumulate](const OpTable& ops, const Context& context, CaseArgs& args) {
    Segments all = {segments.data(), static_cast<int64_t>(segments.size())};
    GroupedGemmDx d_x = {args.matrix("d_y"), args.towers("weight"), args.matrix("d_x"), accumulate, all, args.dtype()};
    GroupedGemmDw d_w = {args.matrix("d_y"), args.matrix("x"), args.towers("d_w"), all, args.dtype()};
    int status = ops.grouped_gemm_d_x(&context, &d_x);
    return status ? status : ops.grouped_gemm_d_w(&context, &d_w);
  };
  c.outputs = {{"y", "d_y"}};
  c.gradients = {{"x", "d_x"}, {"weight", "d_w"}};
  c.limits.rows = s.rows, c.limits.in_features = s.in, c.limits.out_features = s.out;
  return c;
}

// A case for timing: a tower for each group.
void add_timed(std::vector<OpCase>& list, const char* name, const std::vector<int64_t>& groups, int64_t in,
               int64_t out) {
  std::vector<Segment> segments;
  int32_t row = 0, tower = 0;
  for (int64_t rows : groups) {
    segments.push_back({row, row + static_cast<int32_t>(rows), tower++});
    row += static_cast<int32_t>(rows);
  }
  list.push_back(make({name, row, in, out, tower, 0, 0, false, false, false}, segments));
  list.back().info.groups = groups;
}

}  // namespace

void add_grouped_gemm_cases(std::vector<OpCase>& list) {
  for (const Size& s : {Size{"none", 0, 16, 16, 2, 0, 0, false, false, false},
                        {"one_row", 1, 8, 8, 1, 0, 0, false, false, false},
                        {"rows_5", 5, 17, 33, 2, 0, 0, false, true, false},
                        {"rows_6", 6, 64, 64, 1, 0, 0, true, false, false},
                        {"rows_7_odd_depth", 7, 31, 65, 1, 0, 0, false, false, true},
                        {"rows_63", 63, 72, 100, 3, 0, 0, false, true, false},
                        {"rows_64_strided", 64, 40, 211, 3, 0, 3, true, false, false},
                        {"rows_65_padding", 65, 48, 96, 4, 9, 2, false, false, false},
                        {"rows_130_accumulate", 130, 129, 130, 2, 3, 0, true, true, false},
                        {"in_place", 71, 40, 97, 3, 5, 1, false, true, false, true},
                        {"bias", 93, 40, 97, 2, 4, 1, true, false, false, false, true},
                        {"deep", 97, 1100, 70, 2, 0, 0, false, false, false},
                        {"wide_out", 70, 70, 1100, 2, 0, 0, false, true, false},
                        {"several_tiles", 260, 120, 390, 3, 2, 0, true, true, false},
                        {"several_depth_blocks", 90, 1101, 130, 3, 0, 1, false, false, true}})
    list.push_back(make(s));
  // Group sizes around a tile, one tower each.
  const int32_t sizes[] = {0, 1, 5, 6, 7, 83, 84, 85, 63, 64, 65};
  std::vector<Segment> segments;
  int32_t row = 0, tower = 0;
  for (int32_t size : sizes) segments.push_back({row, row + size, tower++}), row += size;
  list.push_back(make({"group_sizes", row, 56, 72, tower, 0, 0, false, false, false}, segments));
  // One tower in three segments with others between, and a tower that no row uses.
  list.push_back(make({"tower_in_pieces", 90, 24, 40, 4, 0, 0, false, true, false},
                      {{0, 20, 1}, {20, 21, 0}, {21, 50, 1}, {50, 60, 3}, {60, 90, 1}}));
  // One group: rows, inputs, outputs. Then groups against the dense product of as many rows.
  add_timed(list, "bench_2048_512_2048", {2048}, 512, 2048);
  add_timed(list, "bench_4096_1024_1024", {4096}, 1024, 1024);
  add_timed(list, "bench_4096_4096_1024", {4096}, 4096, 1024);
  add_timed(list, "bench_4096_1024_4096", {4096}, 1024, 4096);
  add_timed(list, "bench_2048_512_4096", {2048}, 512, 4096);
  add_timed(list, "bench_1024_1024_16384", {1024}, 1024, 16384);
  add_timed(list, "bench_dense_4096", {4096}, 1024, 1024);
  add_timed(list, "bench_uneven_4096", {2600, 1100, 396}, 1024, 1024);
  add_timed(list, "bench_dense_768", {768}, 1024, 1024);
  add_timed(list, "bench_groups_of_256", {256, 256, 256}, 1024, 1024);
}

}  // namespace mot
