// Contract: ops/attention.h. Forward; the backward is in attention_backward.cpp.
#include "cpu/isa/attention_tiles.h"
#include "cpu/isa/kernels.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {
namespace attention {

static constexpr float kNoMax = -1e30f;  // running maximum before the first key; finite, so that differences exist

// Queries of one document; at most kTaskLanes.
struct QueryTile {
  int32_t begin, end;
};

template <class Operand, class T>
class Forward {
 public:
  Forward(const AttentionForward& p, float* scratch)
      : p_(p), E_(p.head_dim), group_(p.heads / p.kv_heads), scratch_(scratch) {}

  void run(int64_t head, QueryTile tile) {
    const int64_t begin = tile.begin, end = tile.end;
    head_ = head;
    kv_column_ = head / group_ * E_;
    // Where the queries' intervals overlap little (decoding, short documents), tiles would mostly be masked.
    int64_t visible = 0;
    for (int64_t t = begin; t < end; t++) visible += p_.kv_end[t] - p_.kv_start[t];
    int64_t keys = p_.kv_end[end - 1] - p_.kv_start[begin];
    int64_t lanes = round_up(end - begin, kWidth);
    if (visible * kRowCost < keys * lanes) {
      for (int64_t t = begin; t < end; t++) run_row(t);
    } else {
      run_tiles(begin, end);
    }
  }

 private:
  // A key costs a single query so many times more than a query in a full block.
  static constexpr int64_t kRowCost = 3;

  const T* query(int64_t t) const { return static_cast<const T*>(p_.q.data) + t * p_.q.stride + head_ * E_; }
  const T* key(int64_t j) const { return static_cast<const T*>(p_.k.data) + j * p_.k.stride + kv_column_; }
  const T* value(int64_t j) const { return static_cast<const T*>(p_.v.data) + j * p_.v.stride + kv_column_; }

  Row out(int64_t t) const {
    return p_.out_row[t] < 0 ? Row{nullptr, false} : row_of(p_.out, p_.out_row[t], head_ * E_);
  }

  void run_tiles(int64_t begin, int64_t end) {
    const int64_t count = end - begin, units = E_ / Operand::kDepth;
    const int blocks = blocks_of(count);
    Scratch scratch(scratch_, E_);
    float *q = scratch.lanes(), *y = scratch.lanes(), *s = scratch.scores(), *p = scratch.scores();
    float *k = scratch.rows(), *v = scratch.rows();
    pack_lanes<Operand>(count, E_, q, [&](int64_t lane) { return query(begin + lane); });
    __builtin_memset(y, 0, E_ * blocks * kLanes * sizeof(float));
    Vec max_score[kBlocks * kVecs], sum[kBlocks * kVecs];
    for (int i = 0; i < blocks * kVecs; i++) max_score[i] = set1(kNoMax), sum[i] = zero();

    Visible visible;
    int64_t first = 0, last = 0;
    keys_end_ = p_.kv_end[end - 1];
    for (int64_t j0 = p_.kv_start[begin]; j0 < keys_end_; j0 += kRows) {
      for (int r = 0; r < kRows; r++) {
        while (first < count && p_.kv_end[begin + first] <= j0 + r) first++;
        while (last < count && p_.kv_start[begin + last] <= j0 + r) last++;
        visible.first[r] = first, visible.last[r] = last;
      }
      pack_rows<Operand>(kRows, E_, k, [&](int64_t r) { return visible.any(r) ? key(j0 + r) : nullptr; });
      pack_columns<Operand>(kRows, E_, v, [&](int64_t r) { return visible.any(r) ? value(j0 + r) : nullptr; });
      for (int block = 0; block < blocks; block++) {
        Run runs[kRows / kGroup];
        const int run_count = visible.runs(block, runs);
        if (run_count == 0) continue;
        float* block_y = y + block * E_ * kLanes;
        Vec *block_max = max_score + block * kVecs, *block_sum = sum + block * kVecs, factor[kVecs];
        for (int i = 0; i < kVecs; i++) factor[i] = block_max[i];
        for (int i = 0; i < run_count; i++)
          with_vecs(runs[i].vecs, [&](auto n) {
            scores<decltype(n)::kValue>(visible, block, runs[i], j0 + kRows, k, q + block * units * kLanes, s,
                                        block_max);
          });
        for (int i = 0; i < kVecs; i++) {
          factor[i] = exp2(factor[i] - block_max[i]);
          block_sum[i] *= factor[i];
        }
        for (int i = 0; i < run_count; i++) exponentials(visible, block, runs[i], s, block_max, block_sum, p);
        // Earlier sums are scaled with the first run where it holds all lanes.
        const bool scaled = runs[0].vecs == kVecs;
        if (!scaled) scale_lanes(factor, block_y);
        for (int i = 0; i < run_count; i++)
          accumulate<Operand>(v, p, runs[i], E_, scaled && i == 0 ? factor : nullptr, block_y);
      }
    }
    finish(begin, count, max_score, sum, y);
  }

  // s = scale * log2(e) * k . q, -infinity where not visible; raises max_score to the largest. Meanwhile the tile from
  // key next on is fetched.
  template <int kCount>
  void scores(const Visible& visible, int block, const Run& run, int64_t next, const float* k, const float* q, float* s,
              Vec* max_score) {
    const Vec scale = set1(static_cast<float>(p_.scale * kLog2E));
    q += run.vec * kWidth, s += run.vec * kWidth, max_score += run.vec;
    for (int r = run.begin; r < run.end; r += kGroup) {
      if (block == 0)
        for (int64_t j = next + r; j < min_of(next + r + kGroup, keys_end_); j++)
          prefetch_row<2>(key(j), E_), prefetch_row<2>(value(j), E_);
      Sums<kCount> x;
      products<Operand, kCount>(k + r * row_stride<Operand>(E_), q, E_, x);
      const bool whole = visible.whole(block, run, r);
      MOT_UNROLL
      for (int v = 0; v < kCount; v++) {
        Vec highest = max_score[v];
        MOT_UNROLL
        for (int i = 0; i < kGroup; i++) {
          x[i][v] *= scale;
          if (!whole) x[i][v] = select(visible.mask(block, r + i, run.vec + v), x[i][v], set1(-__builtin_inff()));
          highest = max(highest, x[i][v]);
          store(s + (r + i) * kLanes + v * kWidth, x[i][v]);
        }
        max_score[v] = highest;
      }
    }
  }

  // p = 2^(s - max_score), added to sum.
  void exponentials(const Visible& visible, int block, const Run& run, const float* s, const Vec* max_score, Vec* sum,
                    float* p) {
    for (int v = run.vec; v < run.vec + run.vecs; v++) {
      Vec total = sum[v];
      for (int group = run.begin; group < run.end; group += kGroup) {
        const bool whole = visible.whole(block, run, group);
        MOT_UNROLL
        for (int r = group; r < group + kGroup; r += Operand::kDepth) {
          Vec steps[Operand::kDepth];
          MOT_UNROLL
          for (int i = 0; i < Operand::kDepth; i++) {
            steps[i] = exp2(load(s + (r + i) * kLanes + v * kWidth) - max_score[v]);
            if (!whole) steps[i] = select(visible.mask(block, r + i, v), steps[i], zero());
            total += steps[i];
          }
          store_units<Operand>(p, r, v, steps);
        }
      }
      sum[v] = total;
    }
  }

  void scale_lanes(const Vec* factor, float* y) {
    for (int64_t e = 0; e < E_; e++)
      for (int v = 0; v < kVecs; v++) store(y + e * kLanes + v * kWidth, load(y + e * kLanes + v * kWidth) * factor[v]);
  }

  void finish(int64_t begin, int64_t count, const Vec* max_score, const Vec* sum, float* y) {
    for (int i = 0; i * kWidth < count; i++) {
      const Vec one = set1(1.f);
      Mask none = less(sum[i], set1(1e-30f));  // the largest term of a sum is 1
      Vec factor = select(none, zero(), one / sum[i]);
      float* block = y + i / kVecs * E_ * kLanes + i % kVecs * kWidth;
      for (int64_t e = 0; e < E_; e++) store(block + e * kLanes, load(block + e * kLanes) * factor);
      int64_t left = count - i * kWidth;
      if (!p_.lse) continue;
      Vec lse = select(none, zero(), fma(max_score[i], set1(kLn2), log(select(none, one, sum[i]))));
      store_n(p_.lse + head_ * p_.q.rows + begin + i * kWidth, lse, min_of(left, kWidth));
    }
    unpack_lanes(y, count, E_, set1(1.f), [&](int64_t lane) { return out(begin + lane); });
  }

  // One query, kWidth keys at a time.
  void run_row(int64_t t) {
    const float scale = static_cast<float>(p_.scale);
    float y[kMaxHeadDim] = {};
    float max_score = kNoMax, sum = 0;
    for (int64_t j = p_.kv_start[t]; j < p_.kv_end[t]; j += kWidth) {
      const int64_t keys = min_of(kWidth, p_.kv_end[t] - j);
      Vec partial[kWidth] = {};
      for (int64_t i = 0; i < keys; i++)
        for (int64_t e = 0; e < E_; e += kWidth)
          partial[i] = fma(load_upto(query(t) + e, E_ - e), load_upto(key(j + i) + e, E_ - e), partial[i]);
      transpose(partial);
      Vec s = zero();
      MOT_UNROLL
      for (int i = 0; i < kWidth; i++) s += partial[i];
      s = select(mask_range(0, keys), s * scale, set1(-__builtin_inff()));
      const float new_max = first_lane(max(set1(max_score), set1(reduce_max(s))));
      Vec p = exp(s - new_max);
      const float factor = first_lane(exp(set1(max_score - new_max)));
      sum = sum * factor + reduce_add(p);
      max_score = new_max;
      float weight[kWidth];
      store(weight, Operand::rounded(p));
      for (int64_t e = 0; e < E_; e += kWidth) {
        Vec total = load_upto(y + e, E_ - e) * factor;
        for (int64_t i = 0; i < keys; i++) total = fma(load_upto(value(j + i) + e, E_ - e), set1(weight[i]), total);
        store_n(y + e, total, min_of(kWidth, E_ - e));
      }
    }
    const bool none = p_.kv_start[t] >= p_.kv_end[t];
    if (p_.lse) p_.lse[head_ * p_.q.rows + t] = none ? 0.f : max_score + first_lane(log(set1(sum)));
    Row to = out(t);
    if (!to.data) return;
    const float factor = none ? 0.f : 1.f / sum;
    for_columns(E_, [&](int64_t e, auto part) { store(to, e, load(y + e, part) * factor, part); });
  }

  const AttentionForward& p_;
  const int64_t E_, group_;
  float* const scratch_;
  int64_t head_ = 0, kv_column_ = 0, keys_end_ = 0;  // of the task
};

template <class Operand, class T>
static void forward(const Context* context, const AttentionForward& p) {
  const int64_t floats = scratch_floats(p.head_dim);
  float* scratch = static_cast<float*>(context->workspace);
  QueryTile* tiles = reinterpret_cast<QueryTile*>(scratch + context->threads * floats);
  int64_t count = 0;
  for_documents(p.kv_start, p.kv_end, p.q.rows, [&](int64_t t_begin, int64_t t_end, int64_t, int64_t) {
    for (int64_t t = t_begin; t < t_end; t += kTaskLanes)
      tiles[count++] = {static_cast<int32_t>(t), static_cast<int32_t>(min_of(t + kTaskLanes, t_end))};
  });
  parallel_for(context->threads, p.heads * count, [&](int64_t task, int worker) {
    // Heads side by side: what the processor fetches beside the rows of one are those of the next.
    Forward<Operand, T>(p, scratch + worker * floats).run(task % p.heads, tiles[task / p.heads]);
  });
}

}  // namespace attention

// Scratch of every worker, then a tile of queries for each query at most (forward); or the sums and tiles of the
// backward.
int64_t attention_workspace(const OpLimits& limits) {
  const int64_t scratch = limits.threads * attention::scratch_floats(limits.head_dim) * int64_t{sizeof(float)};
  const int64_t tiles = limits.rows * int64_t{sizeof(attention::QueryTile)};
  return scratch + attention::max_of(tiles, attention::backward_bytes(limits));
}

int attention_forward(const Context* context, const AttentionForward* params) {
  const AttentionForward& p = *params;
  if (p.head_dim > attention::kMaxHeadDim || p.head_dim % 8)
    return fail("[attention] expected a head width of at most %d, a multiple of 8, got %d",
                static_cast<int>(attention::kMaxHeadDim), static_cast<int>(p.head_dim));
  if (p.q.dtype == kF32) {
    attention::forward<F32Operand, float>(context, p);
  } else if (p.q.dtype == kBF16) {
    attention::forward<Bf16Operand, bf16>(context, p);
  } else {
    return fail("[attention] expected f32 or bf16, got %s", dtype_name(p.q.dtype));
  }
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
