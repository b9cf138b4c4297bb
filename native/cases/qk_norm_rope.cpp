#include <cmath>

#include "cases/case_types.h"

namespace mot {

namespace {

struct Size {
  const char* name;
  int64_t rows, heads, kv_heads, head_dim, towers, padding, slots;
  bool norm;
};

OpCase make(const Size& s) {
  const int64_t width = (s.heads + 2 * s.kv_heads) * s.head_dim, half = s.head_dim / 2;
  const int64_t queries = s.rows - s.padding, slots = s.slots ? s.slots : queries, positions = 97;
  OpCase c;
  const double values = static_cast<double>(s.rows * width);
  c.info = {"qk_norm_rope", std::string("qk_norm_rope/") + s.name, 10 * values, 8 * values, 16 * values, 12 * values};
  c.tensors = {{"qkv", s.rows, width, Role::kInput, Store::kOperand, 1, 3},
               {"q_row", 1, s.rows, Role::kInput, Store::kInt},
               {"kv_row", 1, s.rows, Role::kInput, Store::kInt},
               {"position", 1, s.rows, Role::kInput, Store::kInt},
               {"rope_table", positions, s.head_dim},
               {"q", queries, s.heads * s.head_dim, Role::kOutput, Store::kOperand, 1, 5},
               // Slots that no row writes keep what they held: accumulate, so that they are compared.
               {"k", slots, s.kv_heads * s.head_dim, Role::kAccumulate, Store::kOperand, 1, 1},
               {"v", slots, s.kv_heads * s.head_dim, Role::kAccumulate, Store::kOperand},
               {"d_q", queries, s.heads * s.head_dim, Role::kInput, Store::kOperand},
               {"d_k", slots, s.kv_heads * s.head_dim, Role::kInput, Store::kOperand},
               {"d_v", slots, s.kv_heads * s.head_dim, Role::kInput, Store::kOperand},
               {"d_qkv", s.rows, width, Role::kOutput, Store::kOperand, 1, 3}};
  if (s.norm) {
    for (const char* name : {"q_norm", "k_norm"})
      c.tensors.push_back({name, 1, s.head_dim, Role::kInput, Store::kWide, s.towers, 0, 0.3, 1});
    for (const char* name : {"d_q_norm", "d_k_norm"})
      c.tensors.push_back({name, 1, s.head_dim, Role::kAccumulate, Store::kWide, s.towers});
  }
  std::vector<Segment> segments = uneven_segments(s.rows, s.towers, s.padding);
  // Rows of the sequence in an order that is not sorted (a stride coprime to their number); padding rows have none.
  std::vector<int32_t> seq(static_cast<size_t>(s.rows), -1), slot(static_cast<size_t>(s.rows), -1),
      position(static_cast<size_t>(s.rows), 0);
  int64_t next = 0;
  for (const Segment& segment : segments)
    for (int32_t n = segment.begin; n < segment.end; n++, next++) {
      const int64_t t = (next * 101 + 7) % queries;  // 101 is prime and no case has 101 rows
      seq[static_cast<size_t>(n)] = static_cast<int32_t>(t);
      slot[static_cast<size_t>(n)] = static_cast<int32_t>(slots - queries + t);
      position[static_cast<size_t>(n)] = static_cast<int32_t>(t * 5 % positions);
    }
  c.tensors[1].ints = seq, c.tensors[2].ints = slot, c.tensors[3].ints = position;
  for (int64_t p = 0; p < positions; p++)
    for (int64_t e = 0; e < s.head_dim; e++) {
      const double angle =
          static_cast<double>(p) * std::pow(10000.0, -static_cast<double>(e % half) / static_cast<double>(half));
      c.tensors[4].values.push_back(e < half ? std::cos(angle) : std::sin(angle));
    }
  c.forward = [segments, s](const OpTable& ops, const Context& context, CaseArgs& args) {
    QkNormRopeForward p = {args.matrix("qkv"),
                           args.towers("q_norm"),
                           args.towers("k_norm"),
                           args.ints("q_row"),
                           args.ints("kv_row"),
                           args.ints("position"),
                           args.wide("rope_table"),
                           97,
                           s.heads,
                           s.kv_heads,
                           s.head_dim,
                           args.matrix("q"),
                           args.matrix("k"),
                           args.matrix("v"),
                           {segments.data(), static_cast<int64_t>(segments.size())},
                           1e-5};
    return ops.qk_norm_rope_forward(&context, &p);
  };
  c.backward = [segments, s](const OpTable& ops, const Context& context, CaseArgs& args) {
    QkNormRopeBackward p = {args.matrix("qkv"),
                            args.towers("q_norm"),
                            args.towers("k_norm"),
                            args.ints("q_row"),
                            args.ints("kv_row"),
                            args.ints("position"),
                            args.wide("rope_table"),
                            97,
                            s.heads,
                            s.kv_heads,
                            s.head_dim,
                            args.matrix("d_q"),
                            args.matrix("d_k"),
                            args.matrix("d_v"),
                            args.matrix("d_qkv"),
                            args.towers("d_q_norm"),
                            args.towers("d_k_norm"),
                            {segments.data(), static_cast<int64_t>(segments.size())},
                            1e-5};
    return ops.qk_norm_rope_backward(&context, &p);
  };
  c.outputs = {{"q", "d_q"}, {"k", "d_k"}, {"v", "d_v"}};
  c.gradients = {{"qkv", "d_qkv"}};
  if (s.norm) c.gradients.insert(c.gradients.end(), {{"q_norm", "d_q_norm"}, {"k_norm", "d_k_norm"}});
  c.limits.rows = s.rows, c.limits.slots = slots, c.limits.heads = s.heads, c.limits.kv_heads = s.kv_heads;
  c.limits.head_dim = s.head_dim;
  return c;
}

}  // namespace

void add_qk_norm_rope_cases(std::vector<OpCase>& list) {
  for (const Size& s : {Size{"one", 1, 1, 1, 8, 1, 0, 0, true},
                        {"no_norm", 37, 3, 1, 40, 2, 0, 0, false},
                        {"three_towers", 65, 4, 2, 24, 3, 0, 0, true},
                        {"padding", 70, 2, 2, 64, 4, 6, 0, true},
                        {"cache", 33, 4, 1, 80, 2, 0, 90, true},
                        {"wide_head", 20, 2, 1, 256, 2, 0, 0, true},
                        {"many_rows", 700, 3, 3, 16, 3, 0, 0, true},
                        {"bench", 16384, 8, 8, 64, 3, 0, 0, true}})
    list.push_back(make(s));
}

}  // namespace mot
