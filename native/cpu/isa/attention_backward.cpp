// Contract: ops/attention.h. One pass: a task keeps a tile of keys of one key/value head, walks the queries that see
// it, computes the scores once, and sums d_k and d_v to their end. d_q is summed in an f32 buffer to which all key
// tiles of a document add, one after the other in the order of keys, so bits do not depend on the number of threads.
#if defined(__unix__) || defined(__APPLE__)
#include <sched.h>
#endif

#include "cpu/isa/attention_tiles.h"
#include "cpu/isa/kernels.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {
namespace attention {

// At most kTaskLanes keys of one document, which are all seen, or keys that no query sees. The document: its first key,
// its queries.
struct KeyTile {
  int32_t begin, end, document_key, document_query, document_query_end;
  bool seen;
};

// What lies in the workspace behind the scratch of the workers.
struct Buffers {
  float* d_q;      // [H][T][column_stride], not scaled
  float* delta;    // [H][T]: d_out . out; 0 for padding
  int32_t* turns;  // [H][T], at the first query of each tile of rows: how many key tiles have been added to its d_q
  KeyTile* tiles;  // one for each kTaskLanes keys, and one more for each document and each gap around them
};

int64_t backward_bytes(const OpLimits& limits) {
  return limits.heads * limits.rows * (column_stride(limits.head_dim) + 2) * int64_t{sizeof(float)} +
         (limits.slots / kTaskLanes + 2 * limits.rows + 2) * int64_t{sizeof(KeyTile)};
}

template <class Operand, class T>
class Backward {
 public:
  Backward(const AttentionBackward& p, const Buffers& buffers, float* scratch)
      : p_(p), E_(p.head_dim), group_(p.heads / p.kv_heads), buffers_(buffers), scratch_(scratch) {}

  // Delta of the queries [begin, end) of one head, at most kTaskLanes. A chain in the order of `products`:
  // then d_out . v - delta, hence d_q, is exactly 0 for a query with one key.
  void run_delta(int64_t head, int64_t begin, int64_t end) {
    const int64_t count = end - begin, units = E_ / Operand::kDepth, at = head * p_.q.rows + begin;
    Scratch scratch(scratch_, E_);
    float *out = scratch.lanes(), *d_out = scratch.lanes();
    pack_lanes<Operand>(count, E_, out, [&](int64_t lane) { return output_row(p_.out, head, begin + lane); });
    pack_lanes<Operand>(count, E_, d_out, [&](int64_t lane) { return output_row(p_.d_out, head, begin + lane); });
    for (int64_t lane = 0; lane < count; lane += kWidth) {
      const int64_t from = lane / kLanes * units * kLanes + lane % kLanes;
      Vec sum = zero();
      for (int64_t u = 0; u < units; u++)
        sum = Operand::multiply_add(sum, load(out + from + u * kLanes), load(d_out + from + u * kLanes));
      store_n(buffers_.delta + at + lane, sum, min_of(kWidth, count - lane));
    }
    __builtin_memset(buffers_.turns + at, 0, count * sizeof(int32_t));
  }

  // d_k and d_v of a tile of one key/value head, and its part of d_q.
  void run_keys(int64_t kv_head, const KeyTile& tile) {
    const int64_t begin = tile.begin, count = tile.end - begin;
    Scratch scratch(scratch_, E_);
    k_ = scratch.lanes(), v_ = scratch.lanes(), d_k_ = scratch.lanes(), d_v_ = scratch.lanes();
    p_scores_ = scratch.scores(), p_units_ = scratch.scores(), d_s_ = scratch.scores(), d_s_rows_ = scratch.scores();
    q_ = scratch.rows(), d_out_ = scratch.rows(), q_pairs_ = scratch.rows(), d_out_pairs_ = scratch.rows();
    k_columns_ = scratch.rows(kTaskLanes), spare_row_ = scratch.rows(1);
    // The queries that see any of the keys. Slots that none sees may hold anything, NaN included.
    const int64_t t_begin = first_above(p_.kv_end, p_.q.rows, begin),
                  t_end = tile.seen ? first_above(p_.kv_start, p_.q.rows, tile.end - 1) : t_begin;
    if (tile.seen) {
      auto keys = [&](int64_t lane) { return lane < count ? key(kv_head, begin + lane) : nullptr; };
      pack_lanes<Operand>(count, E_, k_, keys);
      pack_columns<Operand>(blocks_of(count) * kLanes, E_, k_columns_, keys);
      pack_lanes<Operand>(count, E_, v_, [&](int64_t lane) { return value(kv_head, begin + lane); });
    }
    const int64_t lanes = blocks_of(count) * kLanes;
    __builtin_memset(d_k_, 0, E_ * lanes * sizeof(float));
    __builtin_memset(d_v_, 0, E_ * lanes * sizeof(float));
    // Tiles of queries count from the beginning of the document: the same for all key tiles.
    const int64_t t_first = tile.document_query + (t_begin - tile.document_query) / kRows * kRows;
    for (int64_t head = kv_head * group_; head < (kv_head + 1) * group_; head++)
      for (int64_t t0 = t_first; t0 < t_end; t0 += kRows) add_queries(head, t0, t_end, tile);
    unpack_lanes(d_k_, count, E_, set1(static_cast<float>(p_.scale)),
                 [&](int64_t lane) { return row_of(p_.d_k, begin + lane, kv_head * E_); });
    unpack_lanes(d_v_, count, E_, set1(1.f), [&](int64_t lane) { return row_of(p_.d_v, begin + lane, kv_head * E_); });
  }

 private:
  // Queries [t0, t0 + kRows) below t_end, and the tile of keys.
  void add_queries(int64_t head, int64_t t0, int64_t t_end, const KeyTile& tile) {
    const int64_t units = E_ / Operand::kDepth, at = head * p_.q.rows + t0, rows = min_of(kRows, t_end - t0);
    const Visible visible = seen_by_queries(t0, t_end, tile.begin, tile.end - tile.begin);
    const float* q_columns = pack_rows_and_columns<Operand>(
        E_, q_, q_pairs_, [&](int64_t r) { return visible.any(r) ? query(head, t0 + r) : nullptr; });
    const float* d_out_columns = pack_rows_and_columns<Operand>(E_, d_out_, d_out_pairs_, [&](int64_t r) {
      return visible.any(r) ? output_row(p_.d_out, head, t0 + r) : nullptr;
    });
    for (int r = 0; r < kRows; r++) {
      lse_[r] = r < rows ? p_.lse[at + r] * kLog2E : 0.f;
      delta_[r] = r < rows ? buffers_.delta[at + r] : 0.f;
    }
    auto prefetch = [&](int64_t r) {
      for (int64_t t = t0 + kRows + r; t < min_of(t0 + kRows + r + kGroup, t_end); t++) {
        prefetch_row<2>(query(head, t), E_);
        if (p_.out_row[t] >= 0) prefetch_row<2>(output_row(p_.d_out, head, t), E_);
      }
    };
    bool my_turn = false;
    for (int block = 0; block < blocks_of(tile.end - tile.begin); block++) {
      Run runs[kRows / kGroup];
      const int run_count = visible.runs(block, runs);
      const float *k = k_ + block * units * kLanes, *v = v_ + block * units * kLanes;
      for (int i = 0; i < run_count; i++)
        with_vecs(runs[i].vecs, [&](auto n) {
          probabilities<decltype(n)::kValue>(visible, block, runs[i], k, prefetch);
          score_gradients<decltype(n)::kValue>(runs[i], v);
        });
      const float* p = kRounds ? p_units_ : p_scores_;
      for (int i = 0; i < run_count; i++)
        accumulate<Operand>(d_out_columns, p, runs[i], E_, nullptr, d_v_ + block * E_ * kLanes);
      for (int i = 0; i < run_count; i++)
        accumulate<Operand>(q_columns, d_s_, runs[i], E_, nullptr, d_k_ + block * E_ * kLanes);
      if (run_count && !my_turn) begin_turn(head, t0, tile), my_turn = true;
      for (int i = 0; i < run_count; i++) add_d_q(runs[i], block, head, t0, rows);
    }
    if (!my_turn) begin_turn(head, t0, tile);
    end_turn(head, t0, tile);
  }

  // Of the tile of queries from t0 on.
  int64_t end_of_rows(int64_t t0, const KeyTile& tile) const { return min_of(t0 + kRows, tile.document_query_end); }

  // Waits until the key tiles before this one have added to d_q of the tile of queries from t0 on. Their tasks began
  // earlier, since tasks are taken in order, so one of them always goes on.
  void begin_turn(int64_t head, int64_t t0, const KeyTile& tile) const {
    const int32_t* turns = buffers_.turns + head * p_.q.rows + t0;
    const int64_t first = (p_.kv_start[t0] - tile.document_key) / kTaskLanes;
    const int64_t turn = (tile.begin - tile.document_key) / kTaskLanes - first;
    if (turn == 0) {
      __builtin_memset(d_q_row(head, t0), 0, (end_of_rows(t0, tile) - t0) * column_stride(E_) * sizeof(float));
      return;
    }
    for (int tries = 0; __atomic_load_n(turns, __ATOMIC_ACQUIRE) != turn; tries++) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
#if defined(__unix__) || defined(__APPLE__)
      if (tries > 1000) sched_yield();
#endif
    }
  }

  // Hands d_q over to the next key tile; the last one writes it.
  void end_turn(int64_t head, int64_t t0, const KeyTile& tile) const {
    const int64_t end = end_of_rows(t0, tile);
    if (p_.kv_end[end - 1] > tile.end) {
      __atomic_fetch_add(buffers_.turns + head * p_.q.rows + t0, 1, __ATOMIC_RELEASE);
      return;
    }
    const Vec scale = set1(static_cast<float>(p_.scale));
    for (int64_t t = t0; t < end; t++) {
      const float* from = d_q_row(head, t);
      const Row to = row_of(p_.d_q, t, head * E_);
      for_columns(E_, [&](int64_t e, auto part) { store(to, e, load(from + e) * scale, part); });
    }
  }

  float* d_q_row(int64_t head, int64_t t) const { return buffers_.d_q + (head * p_.q.rows + t) * column_stride(E_); }

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

  // Rows are queries [t0, t_end), lanes are keys from `begin` on.
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

  // p = exp(scale * q . k - lse), 0 where not visible. prefetch(r): what the next tile needs for the group of row r.
  template <int kCount, class Prefetch>
  void probabilities(const Visible& visible, int block, const Run& run, const float* k, Prefetch prefetch) {
    const Vec scale = set1(static_cast<float>(p_.scale * kLog2E));
    float* p = p_scores_ + run.vec * kWidth;
    for (int r = run.begin; r < run.end; r += kGroup) {
      if (block == 0) prefetch(r);
      Sums<kCount> x;
      products<Operand, kCount>(q_ + r * row_stride<Operand>(E_), k + run.vec * kWidth, E_, x);
      const bool whole = visible.whole(block, run, r);
      MOT_UNROLL
      for (int i = 0; i < kGroup; i++) MOT_UNROLL
      for (int v = 0; v < kCount; v++) store(p + (r + i) * kLanes + v * kWidth, x[i][v]);
      for (int i = r; i < r + kGroup; i++) {
        const Vec lse = set1(-lse_[i]);
        MOT_UNROLL
        for (int v = 0; v < kCount; v++) {
          float* at = p + i * kLanes + v * kWidth;
          Vec value = exp2(fma(load(at), scale, lse));
          if (!whole) value = select(visible.mask(block, i, run.vec + v), value, zero());
          store(at, value);
        }
      }
    }
  }

  // d_s = p * (d_out . v - delta), in units along queries and along keys; p in units.
  template <int kCount>
  void score_gradients(const Run& run, const float* values) {
    for (int r = run.begin; r < run.end; r += kGroup) {
      Sums<kCount> x;
      products<Operand, kCount>(d_out_ + r * row_stride<Operand>(E_), values + run.vec * kWidth, E_, x);
      MOT_UNROLL
      for (int i = 0; i < kGroup; i += Operand::kDepth) MOT_UNROLL
      for (int v = 0; v < kCount; v++) {
        const int vec = run.vec + v;
        Vec p[Operand::kDepth], d_s[Operand::kDepth];
        MOT_UNROLL
        for (int s = 0; s < Operand::kDepth; s++) {
          const int row = r + i + s;
          p[s] = load(p_scores_ + row * kLanes + vec * kWidth);
          d_s[s] = p[s] * (x[i + s][v] - delta_[row]);
          if constexpr (Operand::kDepth == 2)
            store(reinterpret_cast<bf16*>(d_s_rows_) + row * kLanes + vec * kWidth, d_s[s]);
        }
        if constexpr (kRounds) store_units<Operand>(p_units_, r + i, vec, p);
        store_units<Operand>(d_s_, r + i, vec, d_s);
      }
    }
  }

  // d_q[t] += sum_j d_s[t][j] k[j] over rows and lanes of the run.
  void add_d_q(const Run& run, int block, int64_t head, int64_t t0, int64_t rows) {
    const int64_t stride = column_stride(E_), row_units = kLanes / Operand::kDepth;
    const int64_t begin = run.vec * kWidth / Operand::kDepth, units = run.vecs * kWidth / Operand::kDepth;
    const float* d_s = (Operand::kDepth == 1 ? d_s_ : d_s_rows_) + begin;
    const float* k = k_columns_ + (block * row_units + begin) * stride;
    for (int r = run.begin; r < run.end; r += kGroup) {
      float* d_q[kGroup];  // beyond the last query d_s is 0, but the memory is another document's
      for (int i = 0; i < kGroup; i++) d_q[i] = r + i < rows ? d_q_row(head, t0 + r + i) : spare_row_;
      const float* x = d_s + r * row_units;
      int64_t e = 0;
      for (; e + 2 * kWidth <= stride; e += 2 * kWidth) add_columns<2>(x, k + e, units, e, d_q);
      if (e < stride) add_columns<1>(x, k + e, units, e, d_q);
    }
  }

  template <int kCount>
  void add_columns(const float* x, const float* k, int64_t units, int64_t e, float* const (&d_q)[kGroup]) {
    const int64_t stride = column_stride(E_), row_units = kLanes / Operand::kDepth;
    Sums<kCount> sums;
    MOT_UNROLL
    for (int i = 0; i < kGroup; i++) MOT_UNROLL
    for (int v = 0; v < kCount; v++) sums[i][v] = load(d_q[i] + e + v * kWidth);
    for (int64_t u = 0; u < units; u++) {
      Vec b[kCount];
      MOT_UNROLL
      for (int v = 0; v < kCount; v++) b[v] = load(k + u * stride + v * kWidth);
      MOT_UNROLL
      for (int i = 0; i < kGroup; i++) {
        Vec a = broadcast_unit(x + i * row_units + u);
        MOT_UNROLL
        for (int v = 0; v < kCount; v++) sums[i][v] = Operand::multiply_add(sums[i][v], a, b[v]);
      }
    }
    MOT_UNROLL
    for (int i = 0; i < kGroup; i++) MOT_UNROLL
    for (int v = 0; v < kCount; v++) store(d_q[i] + e + v * kWidth, sums[i][v]);
  }

  static constexpr bool kRounds = sizeof(T) == 2;  // p as an operand is not p itself

  const AttentionBackward& p_;
  const int64_t E_, group_;
  const Buffers& buffers_;
  float* const scratch_;
  // Of the task, in its scratch.
  float *k_, *v_, *d_k_, *d_v_;                    // lanes
  float *p_scores_, *p_units_, *d_s_, *d_s_rows_;  // [kRows][kLanes], but units along rows, or along lanes (d_s_rows_)
  float *q_, *d_out_, *q_pairs_, *d_out_pairs_;    // rows
  float *k_columns_, *spare_row_;                  // [units of kTaskLanes][column_stride], [column_stride]
  float lse_[kRows], delta_[kRows];                // of the tile of queries; lse times log2(e)
};

template <class Operand, class T>
static void backward(const Context* context, const AttentionBackward& p) {
  const int64_t queries = p.q.rows, keys = p.k.rows, floats = scratch_floats(p.head_dim);
  float* scratch = static_cast<float*>(context->workspace);
  Buffers buffers;
  buffers.d_q = scratch + context->threads * floats;
  buffers.delta = buffers.d_q + p.heads * queries * column_stride(p.head_dim);
  buffers.turns = reinterpret_cast<int32_t*>(buffers.delta + p.heads * queries);
  buffers.tiles = reinterpret_cast<KeyTile*>(buffers.turns + p.heads * queries);

  int64_t tiles = 0, next_key = 0;
  auto add_tiles = [&](int64_t begin, int64_t end, int64_t query, int64_t query_end, bool seen) {
    for (int64_t j = begin; j < end; j += kTaskLanes)
      buffers.tiles[tiles++] = {static_cast<int32_t>(j),         static_cast<int32_t>(min_of(j + kTaskLanes, end)),
                                static_cast<int32_t>(begin),     static_cast<int32_t>(query),
                                static_cast<int32_t>(query_end), seen};
    next_key = max_of(next_key, end);
  };
  for_documents(p.kv_start, p.kv_end, queries, [&](int64_t t_begin, int64_t t_end, int64_t j_begin, int64_t j_end) {
    add_tiles(next_key, j_begin, t_begin, t_begin, false);
    add_tiles(j_begin, j_end, t_begin, t_end, true);
  });
  add_tiles(next_key, keys, queries, queries, false);

  const int64_t query_tiles = (queries + kTaskLanes - 1) / kTaskLanes;
  parallel_for(context->threads, p.heads * query_tiles, [&](int64_t task, int worker) {
    const int64_t begin = task % query_tiles * kTaskLanes;
    Backward<Operand, T>(p, buffers, scratch + worker * floats)
        .run_delta(task / query_tiles, begin, min_of(begin + kTaskLanes, queries));
  });
  // Heads side by side: tasks that run at once seldom wait for each other.
  parallel_for(context->threads, p.kv_heads * tiles, [&](int64_t task, int worker) {
    Backward<Operand, T>(p, buffers, scratch + worker * floats)
        .run_keys(task % p.kv_heads, buffers.tiles[task / p.kv_heads]);
  });
  parallel_rows(context, queries, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++)
      if (p.kv_start[t] == p.kv_end[t]) zero_rows(p.d_q, t, t + 1);
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
