// Contract: ops/grad_norm.h.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

static constexpr int64_t kBlock = 65536;  // elements of one task, where these are not too many
static constexpr int64_t kBlocks = 1024;  // at most; sums are combined in the order of blocks

static constexpr int kHalf = kWidth / 2;
typedef float HalfVec __attribute__((vector_size(kHalf * 4)));
typedef double DVec __attribute__((vector_size(kHalf * 8)));

int64_t grad_norm_workspace(const OpLimits&) { return 0; }

static inline DVec square(const float* p) {
  HalfVec g;
  __builtin_memcpy(&g, p, sizeof g);
  DVec wide = __builtin_convertvector(g, DVec);
  return wide * wide;
}

// Squares are f64: those of f32 could overflow. Four sums, so that an addition need not wait for the one before.
static double sum_of_squares(const float* grad, int64_t count) {
  DVec a = {}, b = {}, c = {}, d = {};
  int64_t i = 0;
  for (; i + 4 * kHalf <= count; i += 4 * kHalf) {
    fetch_ahead<512>(grad + i);
    a += square(grad + i), b += square(grad + i + kHalf);
    c += square(grad + i + 2 * kHalf), d += square(grad + i + 3 * kHalf);
  }
  DVec lanes = (a + b) + (c + d);
  double total = 0;
  for (; i < count; i++) total += static_cast<double>(grad[i]) * static_cast<double>(grad[i]);
  for (int lane = 0; lane < kHalf; lane++) total += lanes[lane];
  return total;
}

int grad_norm(const Context* context, const GradNorm* params) {
  const GradNorm& p = *params;
  // Depends on the count only; whole cache lines.
  const int64_t least = ((p.count + kBlocks - 1) / kBlocks + 1023) / 1024 * 1024;
  const int64_t block = least > kBlock ? least : kBlock;
  double sums[kBlocks] = {};
  parallel_for(context->threads, (p.count + block - 1) / block, [&](int64_t task, int) {
    int64_t begin = task * block, count = p.count - begin < block ? p.count - begin : block;
    sums[task] = sum_of_squares(p.grad + begin, count);
  });
  double total = 0;
  for (double sum : sums) total += sum;
  *p.sum_of_squares = total;
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
