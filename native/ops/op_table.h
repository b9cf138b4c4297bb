// The list of ops. A backend is one filled table; model code calls nothing else.
//
// Every function returns 0, or a status other than 0 and leaves a sentence for last_error() (thread-local). Nothing is
// thrown across the table. Arguments are valid by the time they come here (the boundary checks them): backends assert,
// they do not validate, except that an op without support for a dtype says so.
#pragma once
#include "ops/adamw.h"
#include "ops/attention.h"
#include "ops/dispatch.h"
#include "ops/ema.h"
#include "ops/embedding.h"
#include "ops/grad_norm.h"
#include "ops/grouped_gemm.h"
#include "ops/linear_cross_entropy.h"
#include "ops/qk_norm_rope.h"
#include "ops/rms_norm.h"
#include "ops/router.h"
#include "ops/routing.h"
#include "ops/silu.h"
#include "ops/squared_error.h"
#include "ops/swiglu.h"

namespace mot {

// X(function, parameter struct): the one list from which the table, the dispatch and the checks are made.
#define MOT_OPS(X)                              \
  X(embedding_forward, EmbeddingForward)        \
  X(embedding_backward, EmbeddingBackward)      \
  X(rms_norm_forward, RmsNormForward)           \
  X(rms_norm_backward, RmsNormBackward)         \
  X(grouped_gemm_forward, GroupedGemmForward)   \
  X(grouped_gemm_d_x, GroupedGemmDx)            \
  X(grouped_gemm_d_w, GroupedGemmDw)            \
  X(qk_norm_rope_forward, QkNormRopeForward)    \
  X(qk_norm_rope_backward, QkNormRopeBackward)  \
  X(attention_forward, AttentionForward)        \
  X(attention_backward, AttentionBackward)      \
  X(swiglu_forward, SwigluForward)              \
  X(swiglu_backward, SwigluBackward)            \
  X(router_forward, RouterForward)              \
  X(router_backward, RouterBackward)            \
  X(routing_expert_choice, RoutingExpertChoice) \
  X(routing_token_choice, RoutingTokenChoice)   \
  X(dispatch_copy, DispatchCopy)                \
  X(dispatch_sum, DispatchSum)                  \
  X(linear_cross_entropy, LinearCrossEntropy)   \
  X(silu_forward, SiluForward)                  \
  X(silu_backward, SiluBackward)                \
  X(squared_error, SquaredError)                \
  X(grad_norm, GradNorm)                        \
  X(adamw, Adamw)                               \
  X(ema, Ema)

constexpr int32_t kOpTableVersion = 4;  // raised whenever a struct or the list changes

struct OpTable {
  int32_t version;
  const char* name;       // "reference", "cpu"
  const char* variant;    // instruction set: "plain", "generic", "avx2", "avx512", "avx512bf16"
  int64_t row_alignment;  // rows of a group start at multiples of this
  // Scratch that any call within the limits needs.
  int64_t (*workspace_bytes)(const OpLimits*);
  const char* (*last_error)();
#define MOT_OP_MEMBER(function, Params) int (*function)(const Context*, const Params*);
  MOT_OPS(MOT_OP_MEMBER)
#undef MOT_OP_MEMBER
};

// Backends that are linked in. The table lives as long as the process.
const OpTable* reference_backend();
// The best instruction set of this machine, or the one named by the environment variable MOT_ISA (generic, avx2,
// avx512, avx512bf16). nullptr with last_error set in *why when MOT_ISA names one that this machine lacks.
const OpTable* cpu_backend(const char** why);

}  // namespace mot
