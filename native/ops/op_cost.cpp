#include "ops/op_cost.h"

#include <algorithm>

namespace mot {

namespace {

double bytes_of(const Matrix& m) {
  if (!m.data) return 0;
  const double rows = static_cast<double>(m.stride == 0 ? 1 : m.rows);  // stride 0: one row for all
  return rows * static_cast<double>(m.cols) * static_cast<double>(dtype_size(m.dtype));
}

// Of every tower that has rows.
double bytes_of(const TowerWeights& w, const Segments& segments) {
  if (!w.data) return 0;
  double towers = 0;
  for (int64_t i = 0; i < segments.count; i++) {
    const Segment& segment = segments.data[i];
    bool first = segment.begin < segment.end;
    for (int64_t j = 0; j < i && first; j++)
      first = segments.data[j].tower != segment.tower || segments.data[j].begin == segments.data[j].end;
    towers += first;
  }
  return towers * static_cast<double>(w.rows) * static_cast<double>(w.cols) * static_cast<double>(dtype_size(w.dtype));
}

double rows_of(const Segments& segments) {
  double rows = 0;
  for (int64_t i = 0; i < segments.count; i++) rows += segments.data[i].end - segments.data[i].begin;
  return rows;
}

double gemm_flops(const Segments& segments, const TowerWeights& w) {
  return 2 * rows_of(segments) * static_cast<double>(w.rows) * static_cast<double>(w.cols);
}

// Pairs of a query and a key that it sees, times heads.
template <class Attention>
double visible_pairs(const Attention& p) {
  double pairs = 0;
  for (int64_t t = 0; t < p.q.rows; t++)
    if (p.out_row[t] >= 0) pairs += std::max(p.kv_end[t] - p.kv_start[t], 0);
  return pairs * static_cast<double>(p.heads);
}

template <class Attention>
double attention_bytes(const Attention& p) {
  return bytes_of(p.q) + bytes_of(p.k) + bytes_of(p.v) + bytes_of(p.out) +
         (p.lse ? 4.0 * static_cast<double>(p.heads) * static_cast<double>(p.q.rows) : 0);
}

}  // namespace

OpCost op_cost(const EmbeddingForward& p) {
  return {0, 2 * bytes_of(p.out) + bytes_of(p.out_copy)};  // rows of the table are as many as rows of out
}

OpCost op_cost(const EmbeddingBackward& p) {
  const double elements = static_cast<double>(p.d_out.rows) * static_cast<double>(p.d_out.cols);
  return {elements, 3 * bytes_of(p.d_out)};
}

OpCost op_cost(const RmsNormForward& p) {
  const double elements = static_cast<double>(p.x.rows) * static_cast<double>(p.x.cols);
  return {4 * elements, bytes_of(p.x) + bytes_of(p.residual) + bytes_of(p.out) + bytes_of(p.out_copy)};
}

OpCost op_cost(const RmsNormBackward& p) {
  const double elements = static_cast<double>(p.x.rows) * static_cast<double>(p.x.cols);
  return {8 * elements, bytes_of(p.x) + bytes_of(p.d_out) + bytes_of(p.d_x) * (p.accumulate_d_x ? 2 : 1)};
}

OpCost op_cost(const GroupedGemmForward& p) {
  return {gemm_flops(p.segments, p.weight),
          bytes_of(p.x) + bytes_of(p.weight, p.segments) + bytes_of(p.residual) + bytes_of(p.y)};
}

OpCost op_cost(const GroupedGemmDx& p) {
  return {gemm_flops(p.segments, p.weight),
          bytes_of(p.d_y) + bytes_of(p.weight, p.segments) + bytes_of(p.d_x) * (p.accumulate ? 2 : 1)};
}

OpCost op_cost(const GroupedGemmDw& p) {
  return {gemm_flops(p.segments, p.d_w), bytes_of(p.d_y) + bytes_of(p.x) + 2 * bytes_of(p.d_w, p.segments)};
}

OpCost op_cost(const QkNormRopeForward& p) {
  const double elements = static_cast<double>(p.qkv.rows) * static_cast<double>(p.qkv.cols);
  return {8 * elements, 2 * bytes_of(p.qkv)};
}

OpCost op_cost(const QkNormRopeBackward& p) {
  const double elements = static_cast<double>(p.qkv.rows) * static_cast<double>(p.qkv.cols);
  return {16 * elements, 2 * bytes_of(p.qkv) + bytes_of(p.d_qkv)};
}

OpCost op_cost(const AttentionForward& p) {
  return {4 * visible_pairs(p) * static_cast<double>(p.head_dim), attention_bytes(p)};
}

OpCost op_cost(const AttentionBackward& p) {
  return {10 * visible_pairs(p) * static_cast<double>(p.head_dim),
          attention_bytes(p) + bytes_of(p.d_out) + bytes_of(p.d_q) + bytes_of(p.d_k) + bytes_of(p.d_v)};
}

OpCost op_cost(const SwigluForward& p) {
  const double elements = static_cast<double>(p.out.rows) * static_cast<double>(p.out.cols);
  return {5 * elements, bytes_of(p.gate_up) + bytes_of(p.out)};
}

OpCost op_cost(const SwigluBackward& p) {
  const double elements = static_cast<double>(p.d_out.rows) * static_cast<double>(p.d_out.cols);
  return {12 * elements, bytes_of(p.gate_up) + bytes_of(p.d_out) + bytes_of(p.d_gate_up)};
}

OpCost op_cost(const RouterForward& p) {
  const double elements = rows_of(p.segments) * static_cast<double>(p.probs.cols);
  return {5 * elements, 8 * elements};
}

OpCost op_cost(const RouterBackward& p) {
  const double elements = rows_of(p.segments) * static_cast<double>(p.probs.cols);
  return {5 * elements, 16 * elements};
}

OpCost op_cost(const RoutingExpertChoice& p) {
  const double elements = rows_of(p.segments) * static_cast<double>(p.probs.cols);
  return {0, 8 * elements + 8 * static_cast<double>(p.out.end - p.out.begin)};
}

OpCost op_cost(const RoutingTokenChoice& p) {
  const double elements = rows_of(p.segments) * static_cast<double>(p.probs.data ? p.probs.cols : 1);
  return {0, 8 * elements + 8 * static_cast<double>(p.out.end - p.out.begin)};
}

OpCost op_cost(const DispatchCopy& p) {
  // As many rows are read as are written.
  const double elements = static_cast<double>(p.out.rows) * static_cast<double>(p.out.cols);
  return {0, bytes_of(p.out) + elements * static_cast<double>(dtype_size(p.x.dtype))};
}

OpCost op_cost(const DispatchSum& p) {
  const double elements = static_cast<double>(p.x.rows) * static_cast<double>(p.x.cols);
  return {elements, bytes_of(p.x) + bytes_of(p.addend) + bytes_of(p.out)};
}

OpCost op_cost(const LinearCrossEntropy& p) {
  const double products =
      2.0 * static_cast<double>(p.x.rows) * static_cast<double>(p.x.cols) * static_cast<double>(p.weight.rows);
  return {products * (1 + (p.d_x.data ? 1 : 0) + (p.d_weight.data ? 1 : 0)),
          bytes_of(p.x) + bytes_of(p.weight) + bytes_of(p.d_x) + 2 * bytes_of(p.d_weight)};
}

OpCost op_cost(const SiluForward& p) {
  const double elements = static_cast<double>(p.x.rows) * static_cast<double>(p.x.cols);
  return {4 * elements, bytes_of(p.x) + bytes_of(p.out)};
}

OpCost op_cost(const SiluBackward& p) {
  const double elements = static_cast<double>(p.x.rows) * static_cast<double>(p.x.cols);
  return {8 * elements, bytes_of(p.x) + bytes_of(p.d_out) + bytes_of(p.d_x)};
}

OpCost op_cost(const SquaredError& p) {
  const double elements = static_cast<double>(p.x.rows) * static_cast<double>(p.x.cols);
  return {(p.d_x.data ? 4 : 3) * elements, bytes_of(p.x) + bytes_of(p.target) + bytes_of(p.d_x)};
}

OpCost op_cost(const GradNorm& p) { return {2 * static_cast<double>(p.count), 4 * static_cast<double>(p.count)}; }

OpCost op_cost(const Adamw& p) {
  double elements = 0;
  for (int64_t i = 0; i < p.range_count; i++) elements += static_cast<double>(p.ranges[i].end - p.ranges[i].begin);
  return {15 * elements, 28 * elements};  // reads weight, gradient, m, v; writes weight, m, v
}

OpCost op_cost(const Ema& p) { return {3 * static_cast<double>(p.count), 12 * static_cast<double>(p.count)}; }

}  // namespace mot
