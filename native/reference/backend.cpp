// The reference backend's op table.
#include <algorithm>

#include "reference/reference.h"

namespace mot {
namespace {

// The most doubles that any op takes from Scratch.
int64_t workspace_bytes(const OpLimits* limits) {
  const int64_t grouped_gemm = 2 * std::max(limits->in_features, limits->out_features);
  const int64_t qk_norm_rope = 3 * limits->head_dim;
  const int64_t attention = limits->slots * (1 + 2 * limits->head_dim);
  const int64_t linear_cross_entropy = 3 * limits->d_model + limits->vocab;
  const int64_t doubles = std::max({grouped_gemm, qk_norm_rope, attention, linear_cross_entropy});
  return doubles * static_cast<int64_t>(sizeof(double));
}

const char* last_error() { return ""; }  // every op supports every dtype of its contract

constexpr OpTable kTable = {.version = kOpTableVersion,
                            .name = "reference",
                            .variant = "plain",
                            .row_alignment = 1,
                            .workspace_bytes = workspace_bytes,
                            .last_error = last_error,
#define MOT_OP_ENTRY(function, Params) .function = reference::function,
                            MOT_OPS(MOT_OP_ENTRY)
#undef MOT_OP_ENTRY
};

}  // namespace

const OpTable* reference_backend() { return &kTable; }

}  // namespace mot
