// The ops of one instruction set, and the scratch that each of them needs. Every op of op_table.h is defined in the
// file native/cpu/isa/<op>.cpp and compiled once per instruction set.
#pragma once
#include "ops/op_table.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

// Bodies return 0, or fail("[op] ...") from cpu/status.h.
#define MOT_DECLARE_OP(function, Params) int function(const Context* context, const Params* params);
MOT_OPS(MOT_DECLARE_OP)
#undef MOT_DECLARE_OP

// Bytes of Context::workspace that the op's calls within the limits need, forward and backward; ops do not run at once,
// so the largest counts.
#define MOT_CPU_WORKSPACES(X)       \
  X(embedding_workspace)            \
  X(rms_norm_workspace)             \
  X(grouped_gemm_workspace)         \
  X(qk_norm_rope_workspace)         \
  X(attention_workspace)            \
  X(swiglu_workspace)               \
  X(router_workspace)               \
  X(routing_workspace)              \
  X(dispatch_workspace)             \
  X(linear_cross_entropy_workspace) \
  X(silu_workspace)                 \
  X(squared_error_workspace)        \
  X(grad_norm_workspace)            \
  X(adamw_workspace)                \
  X(ema_workspace)

#define MOT_DECLARE_WORKSPACE(function) int64_t function(const OpLimits& limits);
MOT_CPU_WORKSPACES(MOT_DECLARE_WORKSPACE)
#undef MOT_DECLARE_WORKSPACE

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
