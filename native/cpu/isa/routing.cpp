// Contract: ops/routing.h. An expert is a task: it reads its column of probabilities and writes its own routed rows.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

// Expert choice: a key for each row, for every thread.
int64_t routing_workspace(const OpLimits& limits) {
  return limits.threads * limits.rows * static_cast<int64_t>(sizeof(uint32_t));
}

static inline int64_t round_up_to(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Calls f(i, n) for the rows n of all segments, ascending; i counts them.
template <class F>
static inline void for_segment_rows(const Segments& segments, F&& f) {
  int64_t i = 0;
  for (int64_t s = 0; s < segments.count; s++)
    for (int64_t n = segments.data[s].begin; n < segments.data[s].end; n++) f(i++, n);
}

// Probabilities are not negative, so their bits are in their order; NaN comes above all numbers.
static inline uint32_t order_key(float probability) {
  uint32_t bits;
  __builtin_memcpy(&bits, &probability, 4);
  return bits & 0x7fffffffu;
}

// The key of rank `rank`, from 1, when key(0) .. key(count - 1) are sorted downwards; 1 <= rank <= count. *above: how
// many are greater. A radix sort that follows only the digit in which the rank lies.
template <class F>
static uint32_t select_key(int64_t count, int64_t rank, int64_t* above, F&& key) {
  uint32_t prefix = 0, mask = 0;
  int64_t greater = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    int64_t digits[256] = {};
    for (int64_t i = 0; i < count; i++) {
      uint32_t k = key(i);
      if ((k & mask) == prefix) digits[k >> shift & 255]++;
    }
    uint32_t digit = 255;
    while (greater + digits[digit] < rank) greater += digits[digit--];
    prefix |= digit << shift;
    mask |= 255u << shift;
  }
  *above = greater;
  return prefix;
}

// Routed rows [begin, end) belong to no expert.
static inline void pad_rows(const RoutedRows& out, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; r++) out.row[r] = -1, out.gate[r] = 0.f;
}

// Columns of place that belong to no expert of this tower.
static inline void pad_places(const RoutedRows& out, const Segments& segments, int64_t experts) {
  if (experts == out.place_stride) return;
  for_segment_rows(segments, [&](int64_t, int64_t n) {
    for (int64_t e = experts; e < out.place_stride; e++) out.place[n * out.place_stride + e] = -1;
  });
}

// Writes one expert's routed rows from `begin` on; chosen(i, n) says which rows those are.
template <class Chosen, class Gate>
static void write_expert(const RoutedRows& out, const Segments& segments, int64_t e, int64_t begin, Chosen&& chosen,
                         Gate&& gate) {
  int64_t r = begin;
  for_segment_rows(segments, [&](int64_t i, int64_t n) {
    int32_t& place = out.place[n * out.place_stride + e];
    if (!chosen(i, n)) {
      place = -1;
      return;
    }
    out.row[r] = static_cast<int32_t>(n);
    out.gate[r] = gate(n);
    place = static_cast<int32_t>(r++);
  });
  out.segments[e] = {static_cast<int32_t>(begin), static_cast<int32_t>(r), static_cast<int32_t>(out.first_set + e)};
}

int routing_expert_choice(const Context* context, const RoutingExpertChoice* params) {
  const RoutingExpertChoice& p = *params;
  if (p.probs.dtype != kF32) return fail("[routing] expected f32, got %s", dtype_name(p.probs.dtype));
  const int64_t experts = p.probs.cols, stride = p.probs.stride, step = round_up_to(p.capacity, p.out.alignment);
  const int64_t start = round_up_to(p.out.begin, p.out.alignment);
  int64_t rows = 0;
  for_segment_rows(p.segments, [&](int64_t i, int64_t) { rows = i + 1; });
  pad_places(p.out, p.segments, experts);
  parallel_for(context->threads, experts, [&](int64_t e, int worker) {
    uint32_t* keys = static_cast<uint32_t*>(context->workspace) + worker * rows;
    const float* probs = static_cast<const float*>(p.probs.data) + e;
    for_segment_rows(p.segments, [&](int64_t i, int64_t n) { keys[i] = order_key(probs[n * stride]); });
    // Rows above the threshold are in; of those at it, the first ones of the sequence: the greatest ~seq_row.
    uint32_t threshold = ~uint32_t{0}, tie = 0;
    int64_t above = 0, equal = 0;
    if (p.capacity > 0) threshold = select_key(rows, p.capacity, &above, [&](int64_t i) { return keys[i]; });
    for (int64_t i = 0; i < rows; i++) equal += keys[i] == threshold;
    auto tie_key = [&](int64_t n) { return ~static_cast<uint32_t>(p.seq_row[n]); };
    if (equal > p.capacity - above && p.capacity > above) {
      for_segment_rows(p.segments, [&](int64_t i, int64_t n) { keys[i] = keys[i] == threshold ? tie_key(n) : 0; });
      int64_t greater;
      tie = select_key(rows, p.capacity - above, &greater, [&](int64_t i) { return keys[i]; });
    }
    const int64_t begin = start + e * step;
    write_expert(
        p.out, p.segments, e, begin,
        [&](int64_t, int64_t n) {
          const uint32_t key = order_key(probs[n * stride]);
          return key > threshold || (key == threshold && tie_key(n) >= tie);
        },
        [&](int64_t n) { return probs[n * stride]; });
    pad_rows(p.out, begin + p.capacity, e + 1 < experts ? begin + step : p.out.end);
  });
  pad_rows(p.out, p.out.begin, start);
  return 0;
}

// Marks the top_k experts of a row: place 0, all others -1.
static void choose_experts(const RoutingTokenChoice& p, int64_t n) {
  const int64_t experts = p.probs.cols;
  const float* probs = row_of<float>(p.probs, n);
  int32_t* place = p.out.place + n * p.out.place_stride;
  for (int64_t e = 0; e < p.out.place_stride; e++) place[e] = -1;
  for (int64_t k = 0; k < p.top_k; k++) {
    int64_t best = -1;
    for (int64_t e = 0; e < experts; e++)
      if (place[e] < 0 && (best < 0 || order_key(probs[e]) > order_key(probs[best]))) best = e;
    place[best] = 0;
  }
}

int routing_token_choice(const Context* context, const RoutingTokenChoice* params) {
  const RoutingTokenChoice& p = *params;
  const bool routed = given(p.probs);
  if (routed && p.probs.dtype != kF32) return fail("[routing] expected f32, got %s", dtype_name(p.probs.dtype));
  const int64_t experts = routed ? p.probs.cols : 1;
  const RoutedRows& out = p.out;
  int64_t rows = 0;
  for_segment_rows(p.segments, [&](int64_t i, int64_t) { rows = i + 1; });
  if (!routed) {
    const int64_t start = round_up_to(out.begin, out.alignment);
    pad_places(out, p.segments, 1);
    write_expert(
        out, p.segments, 0, start, [](int64_t, int64_t) { return true; }, [](int64_t) { return 1.f; });
    pad_rows(out, out.begin, start), pad_rows(out, start + rows, out.end);
    return 0;
  }

  parallel_rows(context, p.probs.rows, [&](int64_t begin, int64_t end) {
    for_runs(p.segments, begin, end, [&](int64_t first, int64_t last, int64_t tower) {
      for (int64_t n = first; tower >= 0 && n < last; n++) choose_experts(p, n);
    });
  });
  int64_t counts[kMaxExperts], begins[kMaxExperts + 1];
  double sums[kMaxExperts];
  parallel_for(context->threads, experts, [&](int64_t e, int) {
    counts[e] = 0, sums[e] = 0;
    for_segment_rows(p.segments, [&](int64_t, int64_t n) {
      counts[e] += out.place[n * out.place_stride + e] >= 0;
      sums[e] += row_of<float>(p.probs, n)[e];
    });
  });
  int64_t next = out.begin;
  for (int64_t e = 0; e < experts; e++) {
    begins[e] = round_up_to(next, out.alignment);
    pad_rows(out, next, begins[e]);
    next = begins[e] + counts[e];
  }
  pad_rows(out, next, out.end);
  parallel_for(context->threads, experts, [&](int64_t e, int) {
    write_expert(
        out, p.segments, e, begins[e], [&](int64_t, int64_t n) { return out.place[n * out.place_stride + e] >= 0; },
        [&](int64_t n) { return row_of<float>(p.probs, n)[e]; });
  });
  if (!p.balance) return 0;
  const double count = static_cast<double>(rows > 0 ? rows : 1), all = static_cast<double>(experts);
  *p.balance = 0;
  for (int64_t e = 0; e < experts; e++) {
    const double share = static_cast<double>(counts[e]) / (count * static_cast<double>(p.top_k));
    *p.balance += all * share * (sums[e] / count);
    p.d_balance[e] = static_cast<float>(all * share / count);
  }
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
