// Contract: ops/attention.h. Two passes without shared writes or atomics: one keeps queries and sums d_q over keys, the
// other keeps keys and sums d_k and d_v over the queries of all heads of the group. The scores are computed twice, in
// return no task adds to another's output, and bits do not depend on the number of threads.
#include "cpu/isa/attention_tiles.h"
#include "cpu/isa/kernels.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {
namespace attention {

template <class Operand, class T>
class Backward {
 public:
  Backward(const AttentionBackward& p, float* delta, float* scratch)
      : p_(p), E_(p.head_dim), group_(p.heads / p.kv_heads), delta_(delta), scratch_(scratch) {}

  // delta[h,t] = d_out[t] . out[t] of the queries [begin, end) of one head, at most kTaskLanes; 0 for padding. A chain
  // in the order of `products`: then d_out . v - delta, hence d_q, is exactly 0 for a query with one key.
  void run_delta(int64_t head, int64_t begin, int64_t end) {
    const int64_t count = end - begin, units = E_ / Operand::kDepth;
    Scratch scratch(scratch_, E_);
    float *out = scratch.lanes(), *d_out = scratch.lanes();
    pack_lanes<Operand>(count, E_, out, [&](int64_t lane) { return output_row(p_.out, head, begin + lane); });
    pack_lanes<Operand>(count, E_, d_out, [&](int64_t lane) { return output_row(p_.d_out, head, begin + lane); });
    for (int64_t lane = 0; lane < count; lane += kWidth) {
      const int64_t from = lane / kLanes * units * kLanes + lane % kLanes;
      Vec sum = zero();
      for (int64_t u = 0; u < units; u++)
        sum = Operand::multiply_add(sum, load(out + from + u * kLanes), load(d_out + from + u * kLanes));
      store_n(delta_ + head * p_.q.rows + begin + lane, sum, min_of(kWidth, count - lane));
    }
  }

  // d_q of the queries [begin, end) of one head; at most kTaskLanes.
  void run_queries(int64_t head, int64_t begin, int64_t end) {
    const int64_t count = end - begin, units = E_ / Operand::kDepth, kv_head = head / group_;
    Scratch scratch(scratch_, E_);
    float *q = scratch.lanes(), *d_out = scratch.lanes(), *d_q = scratch.lanes();
    float *p = scratch.scores(), *d_s = scratch.scores();
    float *k = scratch.rows(), *v = scratch.rows(), *k_pairs = scratch.rows();
    pack_lanes<Operand>(count, E_, q, [&](int64_t lane) { return query(head, begin + lane); });
    pack_lanes<Operand>(count, E_, d_out, [&](int64_t lane) { return output_row(p_.d_out, head, begin + lane); });
    __builtin_memset(d_q, 0, E_ * kTaskLanes * sizeof(float));
    Vec lse[kBlocks * kVecs], delta[kBlocks * kVecs];
    for (int i = 0; i < kBlocks * kVecs; i++) {
      const int64_t left = count - i * kWidth, at = head * p_.q.rows + begin + i * kWidth;
      lse[i] = left > 0 ? load_upto(p_.lse + at, left) : zero();
      delta[i] = left > 0 ? load_upto(delta_ + at, left) : zero();
    }

    Visible visible;
    int64_t first = 0, last = 0;
    for (int64_t j0 = p_.kv_start[begin]; j0 < p_.kv_end[end - 1]; j0 += kRows) {
      for (int r = 0; r < kRows; r++) {
        while (first < count && p_.kv_end[begin + first] <= j0 + r) first++;
        while (last < count && p_.kv_start[begin + last] <= j0 + r) last++;
        visible.first[r] = first, visible.last[r] = last;
      }
      auto keys = [&](int64_t r) { return visible.any(r) ? key(kv_head, j0 + r) : nullptr; };
      pack_rows<Operand>(E_, k, keys);
      pack_rows<Operand>(E_, v, [&](int64_t r) { return visible.any(r) ? value(kv_head, j0 + r) : nullptr; });
      const float* k_columns = pack_columns<Operand>(E_, k, k_pairs, keys);
      for (int block = 0; block < kBlocks; block++) {
        int row_begin, row_end;
        visible.rows_of_block(block, &row_begin, &row_end);
        if (row_begin >= row_end) continue;
        auto lane_lse = [&](int, int vec) { return lse[block * kVecs + vec]; };
        auto lane_delta = [&](int, int vec) { return delta[block * kVecs + vec]; };
        probabilities(visible, block, row_begin, row_end, k, q + block * units * kLanes, lane_lse, p);
        score_gradients(row_begin, row_end, v, d_out + block * units * kLanes, lane_delta, p, d_s);
        accumulate<Operand>(k_columns, d_s, row_begin, row_end, E_, nullptr, d_q + block * E_ * kLanes);
      }
    }
    unpack_lanes(d_q, count, E_, set1(static_cast<float>(p_.scale)),
                 [&](int64_t lane) { return row_of(p_.d_q, begin + lane, head * E_); });
  }

  // d_k and d_v of the keys [begin, end) of one key/value head; at most kTaskLanes.
  void run_keys(int64_t kv_head, int64_t begin, int64_t end) {
    const int64_t count = end - begin, units = E_ / Operand::kDepth;
    Scratch scratch(scratch_, E_);
    float *k = scratch.lanes(), *v = scratch.lanes(), *d_k = scratch.lanes(), *d_v = scratch.lanes();
    float *p = scratch.scores(), *p_units = scratch.scores(), *d_s = scratch.scores();
    float *q = scratch.rows(), *d_out = scratch.rows(), *q_pairs = scratch.rows(), *d_out_pairs = scratch.rows();
    // The queries that see any of the keys.
    const int64_t queries_count = p_.q.rows;
    const int64_t t_begin = first_above(p_.kv_end, queries_count, begin),
                  t_end = first_above(p_.kv_start, queries_count, end - 1);
    if (t_begin < t_end) {
      pack_lanes<Operand>(count, E_, k,
                          [&](int64_t lane) { return is_seen(begin + lane) ? key(kv_head, begin + lane) : nullptr; });
      pack_lanes<Operand>(count, E_, v,
                          [&](int64_t lane) { return is_seen(begin + lane) ? value(kv_head, begin + lane) : nullptr; });
    }
    __builtin_memset(d_k, 0, E_ * kTaskLanes * sizeof(float));
    __builtin_memset(d_v, 0, E_ * kTaskLanes * sizeof(float));

    for (int64_t head = kv_head * group_; head < (kv_head + 1) * group_; head++) {
      for (int64_t t0 = t_begin; t0 < t_end; t0 += kRows) {
        const Visible visible = seen_by_queries(t0, t_end, begin, count);
        auto queries = [&](int64_t r) { return visible.any(r) ? query(head, t0 + r) : nullptr; };
        auto d_outputs = [&](int64_t r) { return visible.any(r) ? output_row(p_.d_out, head, t0 + r) : nullptr; };
        pack_rows<Operand>(E_, q, queries);
        pack_rows<Operand>(E_, d_out, d_outputs);
        const float* q_columns = pack_columns<Operand>(E_, q, q_pairs, queries);
        const float* d_out_columns = pack_columns<Operand>(E_, d_out, d_out_pairs, d_outputs);
        const int64_t at = head * queries_count + t0;
        auto row_lse = [&](int r, int) { return set1(t0 + r < queries_count ? p_.lse[at + r] : 0.f); };
        auto row_delta = [&](int r, int) { return set1(t0 + r < queries_count ? delta_[at + r] : 0.f); };
        for (int block = 0; block < kBlocks; block++) {
          int row_begin, row_end;
          visible.rows_of_block(block, &row_begin, &row_end);
          if (row_begin >= row_end) continue;
          probabilities(visible, block, row_begin, row_end, q, k + block * units * kLanes, row_lse, p);
          score_gradients(row_begin, row_end, d_out, v + block * units * kLanes, row_delta, p, d_s);
          as_units(row_begin, row_end, p, p_units);
          accumulate<Operand>(d_out_columns, p_units, row_begin, row_end, E_, nullptr, d_v + block * E_ * kLanes);
          accumulate<Operand>(q_columns, d_s, row_begin, row_end, E_, nullptr, d_k + block * E_ * kLanes);
        }
      }
    }
    unpack_lanes(d_k, count, E_, set1(static_cast<float>(p_.scale)),
                 [&](int64_t lane) { return row_of(p_.d_k, begin + lane, kv_head * E_); });
    unpack_lanes(d_v, count, E_, set1(1.f), [&](int64_t lane) { return row_of(p_.d_v, begin + lane, kv_head * E_); });
  }

 private:
  const T* query(int64_t head, int64_t t) const {
    return static_cast<const T*>(p_.q.data) + t * p_.q.stride + head * E_;
  }
  const T* key(int64_t kv_head, int64_t j) const {
    return static_cast<const T*>(p_.k.data) + j * p_.k.stride + kv_head * E_;
  }
  const T* value(int64_t kv_head, int64_t j) const {
    return static_cast<const T*>(p_.v.data) + j * p_.v.stride + kv_head * E_;
  }
  // Of out or d_out; nullptr: padding, no gradient.
  const T* output_row(const Matrix& m, int64_t head, int64_t t) const {
    const int64_t row = p_.out_row[t];
    return row < 0 ? nullptr : static_cast<const T*>(m.data) + row * m.stride + head * E_;
  }

  // The first index of a non-decreasing array whose value is greater than x.
  static int64_t first_above(const int32_t* values, int64_t count, int64_t x) {
    int64_t low = 0, high = count;
    while (low < high) {
      int64_t middle = (low + high) / 2;
      if (values[middle] > x) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  // Whether any query sees key j. Slots that none sees may hold anything, NaN included.
  bool is_seen(int64_t j) const {
    const int64_t t = first_above(p_.kv_end, p_.q.rows, j);
    return t < p_.q.rows && p_.kv_start[t] <= j;
  }

  // Rows are queries from t0 on, lanes are keys from `begin` on.
  Visible seen_by_queries(int64_t t0, int64_t t_end, int64_t begin, int64_t count) const {
    Visible visible;
    for (int r = 0; r < kRows; r++) {
      const int64_t t = t0 + r;
      const bool any = t < t_end && p_.out_row[t] >= 0;
      visible.first[r] = any ? max_of(p_.kv_start[t] - begin, 0) : 0;
      visible.last[r] = any ? min_of(p_.kv_end[t] - begin, count) : 0;
    }
    return visible;
  }

  // p = exp(scale * q . k - lse), 0 where not visible. lse(row, vec): of the query.
  template <class Lse>
  void probabilities(const Visible& visible, int block, int begin, int end, const float* rows, const float* lanes,
                     Lse lse, float* p) {
    const Vec scale = set1(static_cast<float>(p_.scale));
    for (int r = begin; r < end; r += kGroup) {
      Sums x;
      products<Operand>(rows + r * row_stride<Operand>(E_), lanes, E_, x);
      const bool whole = visible.whole(block, r);
      MOT_UNROLL for (int i = 0; i < kGroup; i++) MOT_UNROLL for (int v = 0; v < kVecs; v++)
          store(p + (r + i) * kLanes + v * kWidth, x[i][v]);
      for (int i = r; i < r + kGroup; i++)
        for (int v = 0; v < kVecs; v++) {
          float* at = p + i * kLanes + v * kWidth;
          Vec value = exp(load(at) * scale - lse(i, v));
          store(at, whole ? value : select(visible.mask(block, i, v), value, zero()));
        }
    }
  }

  // d_s = p * (d_out . v - delta), in units.
  template <class Delta>
  void score_gradients(int begin, int end, const float* rows, const float* lanes, Delta delta, const float* p,
                       float* d_s) {
    for (int r = begin; r < end; r += kGroup) {
      Sums x;
      products<Operand>(rows + r * row_stride<Operand>(E_), lanes, E_, x);
      MOT_UNROLL for (int i = 0; i < kGroup; i += Operand::kDepth) MOT_UNROLL for (int v = 0; v < kVecs; v++) {
        Vec steps[Operand::kDepth];
        MOT_UNROLL for (int s = 0; s < Operand::kDepth; s++) {
          int row = r + i + s;
          steps[s] = load(p + row * kLanes + v * kWidth) * (x[i + s][v] - delta(row, v));
        }
        store_units<Operand>(d_s, r + i, v, steps);
      }
    }
  }

  void as_units(int begin, int end, const float* p, float* units) {
    for (int r = begin; r < end; r += Operand::kDepth)
      for (int v = 0; v < kVecs; v++) {
        Vec steps[Operand::kDepth];
        for (int i = 0; i < Operand::kDepth; i++) steps[i] = load(p + (r + i) * kLanes + v * kWidth);
        store_units<Operand>(units, r, v, steps);
      }
  }

  const AttentionBackward& p_;
  const int64_t E_, group_;
  float* const delta_;  // [H, T]
  float* const scratch_;
};

template <class Operand, class T>
static void backward(const Context* context, const AttentionBackward& p) {
  const int64_t query_tiles = (p.q.rows + kTaskLanes - 1) / kTaskLanes;
  const int64_t key_tiles = (p.k.rows + kTaskLanes - 1) / kTaskLanes;
  const int64_t floats = scratch_floats(p.head_dim), key_tasks = p.kv_heads * key_tiles;
  float* scratch = static_cast<float*>(context->workspace);
  float* delta = scratch + context->threads * floats;
  parallel_for(context->threads, p.heads * query_tiles, [&](int64_t task, int worker) {
    int64_t begin = task % query_tiles * kTaskLanes;
    Backward<Operand, T>(p, delta, scratch + worker * floats)
        .run_delta(task / query_tiles, begin, min_of(begin + kTaskLanes, p.q.rows));
  });
  // The larger tasks first.
  parallel_for(context->threads, key_tasks + p.heads * query_tiles, [&](int64_t task, int worker) {
    Backward<Operand, T> backward(p, delta, scratch + worker * floats);
    if (task < key_tasks) {
      int64_t begin = task % key_tiles * kTaskLanes;
      backward.run_keys(task / key_tiles, begin, min_of(begin + kTaskLanes, p.k.rows));
    } else {
      task -= key_tasks;
      int64_t begin = task % query_tiles * kTaskLanes;
      backward.run_queries(task / query_tiles, begin, min_of(begin + kTaskLanes, p.q.rows));
    }
  });
}

}  // namespace attention

int attention_backward(const Context* context, const AttentionBackward* params) {
  const AttentionBackward& p = *params;
  if (p.head_dim > attention::kMaxHeadDim || p.head_dim % 8)
    return fail("[attention] expected a head width of at most %d, a multiple of 8, got %d",
                static_cast<int>(attention::kMaxHeadDim), static_cast<int>(p.head_dim));
  if (p.q.dtype == kF32) {
    attention::backward<F32Operand, float>(context, p);
  } else if (p.q.dtype == kBF16) {
    attention::backward<Bf16Operand, bf16>(context, p);
  } else {
    return fail("[attention] expected f32 or bf16, got %s", dtype_name(p.q.dtype));
  }
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
