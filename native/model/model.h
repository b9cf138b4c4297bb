// A model with its memory: weights, gradients, optimiser state, activations, KV cache, all in one arena planned at
// construction. Single-threaded by contract (one session thread calls it); the ops inside use the thread team.
#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/profile.h"
#include "model/token_groups.h"
#include "model/weights.h"
#include "ops/op_table.h"

namespace mot {

struct Losses {
  double loss = 0;     // the objective: (weighted ce + z_loss * z^2) summed / total targets
  double lm_loss = 0;  // cross-entropy sum / total targets
  double z_loss = 0;   // sum of logsumexp^2 / total targets
  // Load-balance loss of token choice, 1 when even: mean over layers and towers, times the batch's share of the total
  // targets, so that the losses of micro-batches add up.
  double balance_loss = 0;
  std::vector<double> ce_sum;         // [modalities] plain sums over this batch, so that callers can pool batches
  std::vector<int64_t> target_count;  // [modalities]
};

struct AdamwOptions {
  double lr, beta1, beta2, eps, weight_decay;
  double clip;   // global gradient norm; <= 0: no clipping
  int64_t step;  // from 1
};

struct OptimizerResult {
  double grad_norm;  // before clipping
  bool applied;      // false: the norm was not finite, nothing was changed
};

// One tensor of the memory plan, for `mot describe`.
struct PlanEntry {
  std::string name;
  std::string group;  // "weights", "gradients", "optimizer", "activations", "gradients of activations", "cache",
                      // "workspace", "tables"
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t bytes, offset;
};

// Thrown out of a call whose abort flag was raised: weights and optimiser are as they were; accumulated gradients are
// dropped. Error code "ERR_ABORTED".
using AbortFlag = std::atomic<bool>;

class Model {
 public:
  // Throws Error("ERR_CONFIG"), Error("ERR_MEMORY").
  Model(const ModelConfig& config, const Limits& limits, DType compute, const OpTable* backend, int threads);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelConfig& config() const;
  const Limits& limits() const;
  const WeightList& weights() const;
  int64_t row_alignment() const;
  std::vector<PlanEntry> plan() const;
  int64_t arena_bytes() const;       // planned
  int64_t arena_high_water() const;  // furthest byte used so far, workspace included; equals arena_bytes after a step

  // Flat arrays of weights().flat_count() elements. gradients, m, v: nullptr unless limits.training.
  float* weight_data();
  float* gradient_data();
  float* m_data();
  float* v_data();

  void init(uint64_t seed);
  void zero_gradients();

  // Loss of a batch without gradients. total_targets <= 0: the batch's own count. ce and lse [T] (sequence order,
  // 0 without a target) are filled where not null.
  Losses evaluate(const TokenGroups& groups, int64_t total_targets, const AbortFlag& abort, float* ce = nullptr,
                  float* lse = nullptr);

  // Forward and backward; gradients are added. total_targets: of the whole global batch (all micro-batches).
  Losses backward(const TokenGroups& groups, int64_t total_targets, const AbortFlag& abort);

  // Forward of a batch; the final hidden state of the given sequence positions [count], f32 [count, D].
  void forward_hidden(const TokenGroups& groups, const int32_t* positions, int64_t count, float* hidden,
                      const AbortFlag& abort);
  // The same and logits, f32 [count, V].
  void forward_logits(const TokenGroups& groups, const int32_t* positions, int64_t count, float* logits,
                      const AbortFlag& abort);

  // For losses of the caller's own: forward, then backward from the gradient with respect to the hidden state or the
  // logits of the given positions; gradients are added.
  void backward_from_hidden(const TokenGroups& groups, const int32_t* positions, int64_t count, const float* d_hidden,
                            const AbortFlag& abort);
  void backward_from_logits(const TokenGroups& groups, const int32_t* positions, int64_t count, const float* d_logits,
                            const AbortFlag& abort);

  // Clips by the global norm and applies AdamW to all weights; gradients are left (call zero_gradients before the next
  // accumulation). A norm that is not finite changes nothing.
  OptimizerResult adamw(const AdamwOptions& options);

  // With a KV cache (limits.kv_slots > 0): groups made with KvAddress. Writes the keys and values of these tokens into
  // their slots and gives the logits of the chosen positions, f32 [count, V]. Prefill and decode are the same call.
  void decode(const TokenGroups& groups, const int32_t* positions, int64_t count, float* logits,
              const AbortFlag& abort);

  // Records every op from now on, until take_profile. A running profile begins anew.
  void start_profile();
  // Ends the profile: its ops in the order in which they ran. Empty where none was started.
  std::vector<OpEvent> take_profile();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The memory plan of a model without making it (Model::plan and Model::arena_bytes). Throws as the constructor does.
std::vector<PlanEntry> plan_memory(const ModelConfig& config, const Limits& limits, DType compute,
                                   const OpTable* backend, int threads, int64_t* arena_bytes);

}  // namespace mot
