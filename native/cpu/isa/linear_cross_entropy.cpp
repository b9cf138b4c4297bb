// Limited by arithmetic: three GEMMs. Logits exist for one chunk of rows at a time, in the workspace; the chunk's
// gradient replaces them in place.
#include "core/thread_team.h"
#include "cpu/isa/gemm.h"
#include "cpu/isa/kernels.h"
#include "cpu/status.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

namespace {

// d_x sums over the vocabulary in pieces, so that GEMM's packed rows stay small. A multiple of every block depth.
constexpr int64_t kVocabPiece = 4096;

int64_t logits_stride(int64_t vocab) { return round_up(vocab, 16); }

// Many rows, since every chunk packs the weight again; few enough that the logits stay near the cache. d_weight is
// summed chunk by chunk, so this must follow from the vocabulary alone.
constexpr int64_t kLogitsBytes = int64_t{32} << 20;
constexpr int64_t kMinChunk = 256, kMaxChunk = 1024;

int64_t chunk_rows(int64_t vocab) {
  int64_t rows = kLogitsBytes / (4 * logits_stride(vocab)) / 64 * 64;
  return min_of(max_of(rows, kMinChunk), kMaxChunk);
}

// Of the chunks of any vocabulary up to `vocab` and as many rows.
int64_t most_logits_bytes(int64_t vocab, int64_t rows) {
  int64_t row_bytes = 4 * logits_stride(vocab);
  return min_of(row_bytes * min_of(rows, kMaxChunk), max_of(kLogitsBytes, row_bytes * kMinChunk));
}

struct Softmax {
  float max, sum, lse;
};

// Largest logit, sum of exponentials, their logarithm; with kKeep the exponentials replace the logits.
template <bool kKeep>
Softmax softmax_row(float* logits, int64_t vocab) {
  constexpr int kGroup = 4;  // vectors side by side
  constexpr int64_t kLanes = kGroup * kWidth;
  const Vec lowest = set1(-__builtin_inff());
  Vec most[kGroup] = {lowest, lowest, lowest, lowest}, sums[kGroup] = {};
  const int64_t groups = vocab / kLanes * kLanes;
  for (int64_t v = 0; v < groups; v += kLanes) {
    MOT_UNROLL
    for (int i = 0; i < kGroup; i++) most[i] = max(most[i], load(logits + v + i * kWidth));
  }
  for (int64_t v = groups; v < vocab; v += kWidth) {
    Mask valid = mask_range(0, vocab - v);
    most[0] = max(most[0], select(valid, load_n(logits + v, min_of(vocab - v, kWidth)), lowest));
  }
  float max_logit = reduce_max(max(max(most[0], most[1]), max(most[2], most[3])));
  const Vec shift = set1(max_logit);
  for (int64_t v = 0; v < groups; v += kLanes) {
    Vec e[kGroup];
    MOT_UNROLL
    for (int i = 0; i < kGroup; i++) e[i] = load(logits + v + i * kWidth) - shift;
    exp(e);
    MOT_UNROLL
    for (int i = 0; i < kGroup; i++) {
      if (kKeep) store(logits + v + i * kWidth, e[i]);
      sums[i] = sums[i] + e[i];
    }
  }
  for (int64_t v = groups; v < vocab; v += kWidth) {
    const int64_t count = min_of(vocab - v, kWidth);
    Vec e = select(mask_range(0, count), exp(load_n(logits + v, count) - shift), zero());
    if (kKeep) store_n(logits + v, e, count);
    sums[0] = sums[0] + e;
  }
  Vec sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  float total = reduce_add(sum);
  return {max_logit, total, max_logit + first_lane(log(set1(total)))};
}

void scale_row(float* row, int64_t count, float factor) {
  Vec f = set1(factor);
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(row + i, load(row + i) * f);
  if (i < count) store_n(row + i, load_n(row + i, count - i) * f, count - i);
}

// Loss of row n from its logits, which become their gradient when it is wanted.
void finish_row(const LinearCrossEntropy& p, int64_t n, float* logits) {
  int64_t vocab = p.weight.rows;
  int32_t target = p.target[n];
  if (target < 0) {
    p.ce[n] = p.lse[n] = 0;
    if (p.d_x.data) __builtin_memset(logits, 0, static_cast<size_t>(vocab) * 4);
    return;
  }
  float target_logit = logits[target];
  Softmax s = p.d_x.data ? softmax_row<true>(logits, vocab) : softmax_row<false>(logits, vocab);
  p.ce[n] = s.lse - target_logit;
  p.lse[n] = s.lse;
  if (!p.d_x.data) return;
  float scale = p.row_scale[n];
  scale_row(logits, vocab, scale * (1 + 2 * static_cast<float>(p.z_loss) * s.lse) / s.sum);
  logits[target] -= scale;
}

Matrix rows_of(const Matrix& m, int64_t begin, int64_t rows) {
  char* data = static_cast<char*>(m.data) + begin * m.stride * static_cast<int64_t>(dtype_size(m.dtype));
  return {data, m.dtype, rows, m.cols, m.stride};
}

}  // namespace

int linear_cross_entropy(const Context* context, const LinearCrossEntropy* p) {
  const DType dtypes[] = {p->x.dtype, p->compute};
  for (DType dtype : dtypes)
    if (dtype != kF32 && dtype != kBF16)
      return fail("[linear_cross_entropy] the cpu backend takes F32 and BF16, got %s", dtype_name(dtype));

  int64_t rows = p->x.rows, vocab = p->weight.rows, width = p->x.cols;
  int64_t chunk = min_of(chunk_rows(vocab), rows), stride = logits_stride(vocab);
  // Logits lie first in the workspace, what is left is GEMM's.
  float* logits = static_cast<float*>(context->workspace);
  int64_t logits_bytes = chunk * stride * 4;
  Context rest = {context->threads, static_cast<char*>(context->workspace) + logits_bytes,
                  context->workspace_bytes - logits_bytes};

  for (int64_t begin = 0; begin < rows; begin += chunk) {
    int64_t count = min_of(chunk, rows - begin);
    Segment all = {0, static_cast<int32_t>(count), 0};
    Segments segments = {&all, 1};
    Matrix x = rows_of(p->x, begin, count), chunk_logits = {logits, kF32, count, vocab, stride};
    TowerWeights weight = {&p->weight.data, 1, kF32, vocab, width};
    gemm_rows(rest, {x, weight, true, nullptr, 0, chunk_logits, segments, p->compute});

    constexpr int64_t kRows = 4;  // of a task
    parallel_for(context->threads, ceil_div(count, kRows), [&](int64_t task, int) {
      for (int64_t i = task * kRows; i < min_of((task + 1) * kRows, count); i++)
        finish_row(*p, begin + i, logits + i * stride);
    });
    if (!p->d_x.data) continue;

    Matrix d_x = rows_of(p->d_x, begin, count);
    for (int64_t v = 0; v < vocab; v += kVocabPiece) {
      int64_t piece = min_of(kVocabPiece, vocab - v);
      Matrix d_logits = {logits + v, kF32, count, piece, stride};
      void* piece_weight = static_cast<float*>(p->weight.data) + v * width;
      const float* addend = v > 0 ? static_cast<const float*>(d_x.data) : nullptr;
      gemm_rows(
          rest,
          {d_logits, {&piece_weight, 1, kF32, piece, width}, false, addend, d_x.stride, d_x, segments, p->compute});
    }
    if (!p->d_weight.data) continue;
    gemm_gradient(rest, {chunk_logits, x, {&p->d_weight.data, 1, kF32, vocab, width}, segments, p->compute});
  }
  return 0;
}

int64_t linear_cross_entropy_workspace(const OpLimits& limits) {
  if (limits.vocab == 0) return 0;
  int64_t depth = max_of(limits.d_model, min_of(limits.vocab, kVocabPiece));
  return most_logits_bytes(limits.vocab, limits.rows) +
         gemm_workspace(depth, max_of(limits.vocab, limits.d_model), min_of(limits.rows, kMaxChunk), limits.threads);
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
