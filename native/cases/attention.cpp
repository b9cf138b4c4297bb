#include <cmath>
#include <functional>

#include "cases/case_types.h"

namespace mot {

namespace {

// Intervals of one query: [start, end).
struct Interval {
  int32_t start, end;
};
using Pattern = std::function<Interval(int64_t t, int64_t queries, int64_t slots)>;

Interval causal(int64_t t, int64_t, int64_t) { return {0, static_cast<int32_t>(t + 1)}; }
Interval everything(int64_t, int64_t, int64_t slots) { return {0, static_cast<int32_t>(slots)}; }
// Keys are a cache: the queries are its last tokens.
Interval cached(int64_t t, int64_t queries, int64_t slots) {
  return {0, static_cast<int32_t>(slots - queries + t + 1)};
}

Pattern documents(std::vector<int64_t> lengths) {
  return [lengths](int64_t t, int64_t, int64_t) -> Interval {
    int64_t begin = 0;
    for (size_t d = 0;; begin += lengths[d % lengths.size()], d++)
      if (t < begin + lengths[d % lengths.size()]) return {static_cast<int32_t>(begin), static_cast<int32_t>(t + 1)};
  };
}

Pattern window(int64_t width) {
  return [width](int64_t t, int64_t, int64_t) -> Interval {
    return {static_cast<int32_t>(t + 1 < width ? 0 : t + 1 - width), static_cast<int32_t>(t + 1)};
  };
}

// Spans of `width` every second `width` tokens see all of themselves.
Pattern bidirectional(int64_t width) {
  return [width](int64_t t, int64_t queries, int64_t) -> Interval {
    const int64_t span = t / width, end = span % 2 ? (span + 1) * width : t + 1;
    return {0, static_cast<int32_t>(end < queries ? end : queries)};
  };
}

struct Size {
  const char* name;
  int64_t queries, slots, heads, kv_heads, head_dim, padding;
  Pattern pattern;
  double scale = 1;             // of q: large values try the running maximum
  bool writes_padding = false;  // empty intervals have a row of out, which becomes zero
};

OpCase make(const Size& s) {
  OpCase c;
  const int64_t rows = s.queries + 2;  // two rows of out belong to no query
  std::vector<int32_t> start, end, out_row;
  double area = 0;
  for (int64_t t = 0; t < s.queries; t++) {
    Interval interval = s.pattern(t, s.queries, s.slots);
    const bool padding = t >= s.queries - s.padding;
    if (padding) interval.start = interval.end = t ? end.back() : 0;
    if (padding && interval.start < start.back()) interval.start = start.back();
    start.push_back(interval.start), end.push_back(interval.end);
    out_row.push_back(padding && !s.writes_padding ? -1
                                                   : static_cast<int32_t>((t * 103 + 11) % s.queries));  // 103 is prime
    area += interval.end - interval.start;
  }
  if (s.padding && !s.writes_padding)  // with padding the permutation has to stay inside the real rows
    for (int64_t t = 0; t < s.queries - s.padding; t++)
      out_row[static_cast<size_t>(t)] = static_cast<int32_t>((t * 103 + 11) % (s.queries - s.padding));
  const double matmul = 2 * area * static_cast<double>(s.heads * s.head_dim);
  const double bytes = 4.0 * static_cast<double>((2 * s.queries * s.heads + 2 * s.slots * s.kv_heads) * s.head_dim);
  c.info = {"attention", std::string("attention/") + s.name, 2 * matmul, bytes, 5 * matmul, 2 * bytes};
  const int64_t q_cols = s.heads * s.head_dim, kv_cols = s.kv_heads * s.head_dim;
  c.tensors = {{"q", s.queries, q_cols, Role::kInput, Store::kOperand, 1, 3, s.scale},
               {"k", s.slots, kv_cols, Role::kInput, Store::kOperand, 1, 1},
               {"v", s.slots, kv_cols, Role::kInput, Store::kOperand},
               {"kv_start", 1, s.queries, Role::kInput, Store::kInt},
               {"kv_end", 1, s.queries, Role::kInput, Store::kInt},
               {"out_row", 1, s.queries, Role::kInput, Store::kInt},
               {"out", rows, q_cols, Role::kAccumulate, Store::kOperand, 1, 2},  // rows of no query stay as they were
               {"lse", s.heads, s.queries, Role::kOutput},
               {"d_out", rows, q_cols, Role::kInput, Store::kOperand, 1, 2},
               {"d_q", s.queries, q_cols, Role::kOutput, Store::kOperand},
               {"d_k", s.slots, kv_cols, Role::kOutput, Store::kOperand},
               {"d_v", s.slots, kv_cols, Role::kOutput, Store::kOperand}};
  for (CaseTensor& t : c.tensors)
    if (t.role != Role::kInput && t.name != "lse") t.slack = s.scale > 1 ? 15 : 3, t.floor = 1e-2, t.rounded = true;
  // A score of 100 has an absolute error of 1e-5 in f32, hence the slack. A query with one key has no gradient, but as
  // the difference of two sums of size 1.
  for (CaseTensor& t : c.tensors)
    if (t.name == "d_q" || t.name == "d_k") t.exact_zeros = false, t.floor = 0.15;
  c.tensors[3].ints = start, c.tensors[4].ints = end, c.tensors[5].ints = out_row;
  c.forward = [s](const OpTable& ops, const Context& context, CaseArgs& args) {
    AttentionForward p = {args.matrix("q"),
                          args.matrix("k"),
                          args.matrix("v"),
                          args.ints("kv_start"),
                          args.ints("kv_end"),
                          args.ints("out_row"),
                          s.heads,
                          s.kv_heads,
                          s.head_dim,
                          1 / std::sqrt(static_cast<double>(s.head_dim)),
                          args.matrix("out"),
                          args.wide("lse")};
    return ops.attention_forward(&context, &p);
  };
  c.backward = [s](const OpTable& ops, const Context& context, CaseArgs& args) {
    AttentionBackward p = {args.matrix("q"),
                           args.matrix("k"),
                           args.matrix("v"),
                           args.ints("kv_start"),
                           args.ints("kv_end"),
                           args.ints("out_row"),
                           s.heads,
                           s.kv_heads,
                           s.head_dim,
                           1 / std::sqrt(static_cast<double>(s.head_dim)),
                           args.matrix("out"),
                           args.wide("lse"),
                           args.matrix("d_out"),
                           args.matrix("d_q"),
                           args.matrix("d_k"),
                           args.matrix("d_v")};
    return ops.attention_backward(&context, &p);
  };
  c.outputs = {{"out", "d_out"}};
  c.gradients = {{"q", "d_q"}, {"k", "d_k"}, {"v", "d_v"}};
  c.limits.rows = rows, c.limits.slots = s.slots, c.limits.heads = s.heads, c.limits.kv_heads = s.kv_heads;
  c.limits.head_dim = s.head_dim;
  return c;
}

}  // namespace

void add_attention_cases(std::vector<OpCase>& list) {
  for (const Size& s : {
           Size{"one", 1, 1, 1, 1, 8, 0, causal},
           {"causal_narrow_head", 65, 65, 2, 1, 8, 0, causal},
           {"causal_odd", 37, 37, 3, 3, 24, 0, causal},
           {"documents", 130, 130, 4, 2, 40, 0, documents({1, 37, 2, 70, 1})},
           {"documents_many_tiles", 300, 300, 2, 2, 64, 0, documents({63, 65, 1, 130})},
           {"window", 200, 200, 2, 1, 16, 0, window(24)},
           {"window_one", 50, 50, 1, 1, 16, 0, window(1)},
           {"window_over_tiles", 260, 260, 2, 2, 64, 0, window(129)},
           {"bidirectional", 150, 150, 2, 1, 80, 0, bidirectional(17)},
           {"everything", 70, 90, 2, 2, 128, 0, everything},
           {"cache_one_query", 1, 333, 4, 2, 64, 0, cached},
           {"cache_several", 9, 200, 4, 1, 40, 0, cached},
           {"padding", 80, 80, 2, 1, 32, 7, causal},
           {"empty_intervals", 70, 70, 2, 1, 32, 5, causal, 1, true},
           {"large_scores", 96, 96, 2, 2, 64, 0, causal, 30},
           {"widest_head", 40, 40, 1, 1, 256, 0, causal},
           {"bench_documents_1024", 4096, 4096, 8, 8, 64, 0, documents({1024})},
           {"bench_documents_512", 4096, 4096, 8, 8, 64, 0, documents({512})},
           {"bench_packed_128", 4096, 4096, 8, 8, 64, 0, documents({128})},
       })
    list.push_back(make(s));
}

}  // namespace mot
