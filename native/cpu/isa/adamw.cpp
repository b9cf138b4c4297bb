// Contract: ops/adamw.h.
#include "cpu/isa/kernels.h"
#include "cpu/isa/rows.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

static constexpr int64_t kBlock = 16384;  // elements of one task

int64_t adamw_workspace(const OpLimits&) { return 0; }

struct AdamwFactors {
  float grad_scale, beta1, one_minus_beta1, beta2, one_minus_beta2;
  float keep;        // what decay leaves of a weight
  float step_size;   // lr / (1 - beta1^step)
  float root_scale;  // 1 / sqrt(1 - beta2^step)
  float eps;
};

// One pass over the four arrays.
static void update(const Adamw& p, const AdamwFactors& f, int64_t begin, int64_t end) {
  for_columns(end - begin, [&](int64_t offset, auto part) {
    int64_t i = begin + offset;
    fetch_ahead<256>(p.grad + i), fetch_ahead<256>(p.m + i);
    fetch_ahead<256>(p.v + i), fetch_ahead<256>(p.weight + i);
    Vec grad = load(p.grad + i, part) * f.grad_scale;
    Vec m = fma(load(p.m + i, part), set1(f.beta1), grad * f.one_minus_beta1);
    Vec v = fma(load(p.v + i, part), set1(f.beta2), grad * grad * f.one_minus_beta2);
    Vec step = m * f.step_size / fma(sqrt(v), set1(f.root_scale), set1(f.eps));
    store(p.weight + i, fma(load(p.weight + i, part), set1(f.keep), -step), part);
    store(p.m + i, m, part);
    store(p.v + i, v, part);
  });
}

int adamw(const Context* context, const Adamw* params) {
  const Adamw& p = *params;
  const double step = static_cast<double>(p.step);
  AdamwFactors factors;
  factors.grad_scale = static_cast<float>(p.grad_scale);
  factors.beta1 = static_cast<float>(p.beta1);
  factors.one_minus_beta1 = static_cast<float>(1 - p.beta1);
  factors.beta2 = static_cast<float>(p.beta2);
  factors.one_minus_beta2 = static_cast<float>(1 - p.beta2);
  factors.step_size = static_cast<float>(p.lr / (1 - __builtin_pow(p.beta1, step)));
  factors.root_scale = static_cast<float>(1 / __builtin_sqrt(1 - __builtin_pow(p.beta2, step)));
  factors.eps = static_cast<float>(p.eps);

  int64_t tasks = 0;
  for (int64_t r = 0; r < p.range_count; r++) tasks += (p.ranges[r].end - p.ranges[r].begin + kBlock - 1) / kBlock;
  parallel_for(context->threads, tasks, [&](int64_t task, int) {
    const AdamwRange* range = p.ranges;
    for (;; range++) {
      int64_t blocks = (range->end - range->begin + kBlock - 1) / kBlock;
      if (task < blocks) break;
      task -= blocks;
    }
    AdamwFactors f = factors;
    f.keep = range->decay ? static_cast<float>(1 - p.lr * p.weight_decay) : 1.f;
    int64_t begin = range->begin + task * kBlock, end = begin + kBlock;
    update(p, f, begin, end < range->end ? end : range->end);
  });
  return 0;
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
