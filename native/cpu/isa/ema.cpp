// Contract: ops/ema.h. Memory limits it.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

static constexpr int64_t kBlock = 65536;  // elements of one task

int64_t ema_workspace(const OpLimits&) { return 0; }

int ema(const Context* context, const Ema* params) {
  const Ema& p = *params;
  const float share = static_cast<float>(1 - p.decay);
  parallel_for(context->threads, (p.count + kBlock - 1) / kBlock, [&](int64_t task, int) {
    const int64_t begin = task * kBlock, count = p.count - begin < kBlock ? p.count - begin : kBlock;
    for_columns(count, [&](int64_t offset, auto part) {
      const int64_t i = begin + offset;
      const Vec average = load(p.average + i, part);
      store(p.average + i, fma(load(p.value + i, part) - average, set1(share), average), part);
    });
  });
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
