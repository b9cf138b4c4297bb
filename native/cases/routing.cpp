#include <algorithm>

#include "cases/case_types.h"

namespace mot {

namespace {

struct Size {
  const char* name;
  int64_t rows, experts, padding, columns;  // columns: of place, experts or more
  double capacity_factor;                   // > 0: expert choice
  int64_t top_k;                            // > 0: token choice
  int64_t alignment = 1;
  std::vector<double> values = {};  // of the probabilities, repeated; empty: random
  bool routed = true;               // false: token choice without probabilities
};

OpCase make(const Size& s) {
  OpCase c;
  c.info = {"routing", std::string("routing/") + s.name, 0, 8.0 * static_cast<double>(s.rows * s.experts), 0, 0};
  const std::vector<Segment> segments = uneven_segments(s.rows, 3, s.padding);
  int64_t rows = 0;
  for (const Segment& segment : segments) rows += segment.end - segment.begin;
  const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  int64_t capacity = 0;
  if (s.capacity_factor > 0 && rows > 0)
    capacity = std::min(rows, ceil_div(static_cast<int64_t>(static_cast<double>(rows) * s.capacity_factor), s.experts));
  // Two routed rows before this tower's, three unused behind them.
  const int64_t begin = 2, step = ceil_div(capacity, s.alignment) * s.alignment;
  const int64_t end =
      begin + s.alignment + 3 + (s.top_k > 0 ? rows * s.top_k + s.experts * (s.alignment - 1) : s.experts * step);

  auto ints = [](const char* name, int64_t tensor_rows, int64_t cols, Role role, std::vector<int32_t> values) {
    CaseTensor t{name, tensor_rows, cols, role, Store::kInt};
    t.ints = std::move(values);
    return t;
  };
  auto untouched = [](int64_t count) { return std::vector<int32_t>(static_cast<size_t>(count), -77); };
  // Sequence order runs against sorted order in blocks, so that ties tell them apart.
  std::vector<int32_t> seq_row;
  for (int64_t n = 0; n < s.rows; n++) seq_row.push_back(static_cast<int32_t>((n * 5 + s.rows / 2) % s.rows));
  if (s.rows % 5 == 0)
    for (int64_t n = 0; n < s.rows; n++) seq_row[static_cast<size_t>(n)] = static_cast<int32_t>(s.rows - 1 - n);
  c.tensors = {ints("seq_row", 1, s.rows, Role::kInput, seq_row),
               ints("row", 1, end, Role::kAccumulate, untouched(end)),
               {"gate", 1, end, Role::kAccumulate},
               ints("place", s.rows, s.columns, Role::kAccumulate, untouched(s.rows * s.columns)),
               ints("segments", s.experts, 3, Role::kAccumulate, untouched(3 * s.experts))};
  if (s.routed) {
    CaseTensor probs{"probs", s.rows, s.experts};
    probs.scale = 0.1, probs.shift = 0.6, probs.values = s.values;
    c.tensors.push_back(probs);
  }
  const bool balance = s.top_k > 0 && s.routed;
  if (balance) {
    c.tensors.push_back({"balance", 1, 1, Role::kOutput, Store::kDouble});
    c.tensors.push_back({"d_balance", 1, s.experts, Role::kOutput});
    c.tensors[c.tensors.size() - 2].slack = 1e4;  // sums of what the dtype holds, in another order
  }
  c.forward = [segments, s, begin, end, capacity, balance](const OpTable& ops, const Context& context, CaseArgs& args) {
    const RoutedRows out = {args.ints("row"),
                            args.wide("gate"),
                            args.ints("place"),
                            s.columns,
                            reinterpret_cast<Segment*>(args.ints("segments")),
                            begin,
                            end,
                            s.alignment,
                            7};
    const Segments all = {segments.data(), static_cast<int64_t>(segments.size())};
    if (s.top_k == 0) {
      RoutingExpertChoice p = {args.matrix("probs"), args.ints("seq_row"), capacity, out, all};
      return ops.routing_expert_choice(&context, &p);
    }
    RoutingTokenChoice p = {args.matrix("probs"),
                            s.top_k,
                            balance ? args.doubles("balance") : nullptr,
                            balance ? args.wide("d_balance") : nullptr,
                            out,
                            all};
    return ops.routing_token_choice(&context, &p);
  };
  c.limits.rows = std::max(s.rows, end);
  return c;
}

}  // namespace

void add_routing_cases(std::vector<OpCase>& list) {
  const std::vector<double> equal = {0.25}, three = {0.5, 0.25, 0.25, 0.125, 0.5};
  for (const Size& s : {Size{"expert_none", 0, 4, 0, 4, 1, 0},
                        {"expert_one_row", 1, 4, 0, 5, 1, 0},
                        {"expert_one_expert", 41, 1, 0, 1, 1, 0},
                        {"expert_four", 83, 4, 0, 4, 1, 0},
                        {"expert_padding_aligned", 97, 3, 9, 6, 1.25, 0, 8},
                        {"expert_all_rows", 30, 3, 0, 3, 3, 0},
                        {"expert_ties", 85, 4, 0, 4, 1, 0, 1, three},
                        {"expert_all_equal", 64, 4, 5, 4, 1, 0, 4, equal},
                        {"expert_sixteen", 700, 16, 0, 16, 2, 0},
                        {"token_none", 0, 4, 0, 4, 0, 1},
                        {"token_one_row", 1, 4, 0, 4, 0, 2},
                        {"token_one_expert", 41, 1, 0, 2, 0, 1},
                        {"token_top_1", 83, 4, 0, 4, 0, 1},
                        {"token_top_2_padding_aligned", 97, 5, 9, 7, 0, 2, 8},
                        {"token_all_experts", 30, 3, 0, 3, 0, 3},
                        {"token_ties", 85, 4, 0, 4, 0, 2, 1, three},
                        {"token_all_equal", 64, 4, 5, 4, 0, 1, 4, equal},
                        {"token_sixteen", 700, 16, 0, 16, 0, 2},
                        {"token_unrouted", 67, 1, 6, 3, 0, 1, 4, {}, false},
                        {"bench", 8192, 4, 0, 4, 1, 0},
                        {"bench_token", 8192, 4, 0, 4, 0, 1}})
    list.push_back(make(s));
}

}  // namespace mot
