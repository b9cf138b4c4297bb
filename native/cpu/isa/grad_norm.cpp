// Contract: ops/grad_norm.h.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

static constexpr int64_t kBlocks = 256;  // at most; sums are combined in the order of blocks

typedef double DVec __attribute__((vector_size(kWidth * 8)));

int64_t grad_norm_workspace(const OpLimits&) { return 0; }

int grad_norm(const Context* context, const GradNorm* params) {
  const GradNorm& p = *params;
  // Depends on the count only; whole cache lines.
  const int64_t block = ((p.count + kBlocks - 1) / kBlocks + 1023) / 1024 * 1024;
  double sums[kBlocks] = {};
  parallel_for(context->threads, block ? (p.count + block - 1) / block : 0, [&](int64_t task, int) {
    const float* grad = p.grad + task * block;
    int64_t count = p.count - task * block < block ? p.count - task * block : block;
    DVec sum = {};
    for_columns(count, [&](int64_t i, auto part) {
      DVec g = __builtin_convertvector(load(grad + i, part), DVec);
      sum += g * g;
    });
    double total = 0;
    for (int i = 0; i < kWidth; i++) total += sum[i];
    sums[task] = total;
  });
  double total = 0;
  for (double sum : sums) total += sum;
  *p.sum_of_squares = total;
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
