// Contract: ops/routing.h.
#include <algorithm>
#include <cmath>
#include <vector>

#include "reference/reference.h"

namespace mot::reference {
namespace {

// The rows of all segments, ascending.
std::vector<int32_t> rows_of(const Segments& segments) {
  std::vector<int32_t> rows;
  for_each_row(segments, [&](int64_t n, int64_t) { rows.push_back(static_cast<int32_t>(n)); });
  return rows;
}

// A probability as a key to sort by.
double rank_key(double probability) { return std::isnan(probability) ? INFINITY : probability; }

// Writes what the contract calls the result: chosen[e] holds the rows of expert e, ascending.
template <class Gate>
void write(const RoutedRows& out, DType statistics, const std::vector<int32_t>& rows,
           const std::vector<std::vector<int32_t>>& chosen, Gate gate) {
  const auto experts = static_cast<int64_t>(chosen.size());
  for (int32_t n : rows) std::fill_n(out.place + n * out.place_stride, out.place_stride, -1);
  int64_t r = out.begin;
  auto pad = [&](int64_t end) {
    for (; r < end; r++) out.row[r] = -1, set(out.gate, statistics, r, 0);
  };
  for (int64_t e = 0; e < experts; e++) {
    pad((r + out.alignment - 1) / out.alignment * out.alignment);
    Segment& segment = out.segments[e];
    segment.begin = static_cast<int32_t>(r);
    for (int32_t n : chosen[e]) {
      out.row[r] = n;
      set(out.gate, statistics, r, gate(n, e));
      out.place[n * out.place_stride + e] = static_cast<int32_t>(r);
      r++;
    }
    segment.end = static_cast<int32_t>(r);
    segment.tower = out.first_set + static_cast<int32_t>(e);
  }
  pad(out.end);
}

}  // namespace

int routing_expert_choice(const Context*, const RoutingExpertChoice* p) {
  const std::vector<int32_t> rows = rows_of(p->segments);
  std::vector<std::vector<int32_t>> chosen(static_cast<size_t>(p->probs.cols));
  for (int64_t e = 0; e < p->probs.cols; e++) {
    std::vector<int32_t> order = rows;
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      const double x = rank_key(get(p->probs, a, e)), y = rank_key(get(p->probs, b, e));
      return x != y ? x > y : p->seq_row[a] < p->seq_row[b];
    });
    order.resize(static_cast<size_t>(p->capacity));
    std::sort(order.begin(), order.end());
    chosen[e] = order;
  }
  write(p->out, statistics_dtype(p->probs), rows, chosen, [&](int64_t n, int64_t e) { return get(p->probs, n, e); });
  return 0;
}

int routing_token_choice(const Context*, const RoutingTokenChoice* p) {
  const std::vector<int32_t> rows = rows_of(p->segments);
  const bool routed = given(p->probs);
  const int64_t experts = routed ? p->probs.cols : 1;
  const DType statistics = statistics_dtype(p->probs);
  auto probability = [&](int64_t n, int64_t e) { return routed ? get(p->probs, n, e) : 1; };
  std::vector<std::vector<int32_t>> chosen(static_cast<size_t>(experts));
  std::vector<int64_t> order(static_cast<size_t>(experts));
  for (int32_t n : rows) {
    for (int64_t e = 0; e < experts; e++) order[e] = e;
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return rank_key(probability(n, a)) > rank_key(probability(n, b)); });
    for (int64_t k = 0; k < p->top_k; k++) chosen[order[k]].push_back(n);
  }
  write(p->out, statistics, rows, chosen, probability);
  if (!p->balance) return 0;
  const auto count = static_cast<double>(std::max<size_t>(rows.size(), 1));
  *p->balance = 0;
  for (int64_t e = 0; e < experts; e++) {
    double mean = 0;
    for (int32_t n : rows) mean += probability(n, e) / count;
    const double share = static_cast<double>(chosen[e].size()) / (count * static_cast<double>(p->top_k));
    *p->balance += static_cast<double>(experts) * share * mean;
    set(p->d_balance, statistics, e, static_cast<double>(experts) * share / count);
  }
  return 0;
}

}  // namespace mot::reference
