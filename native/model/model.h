// A model with its memory: weights, gradients, optimiser state, activations, KV cache, all in one arena planned at
// construction. Single-threaded by contract (one session thread calls it); the ops inside use the thread team.
#pragma once
#include <atomic>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/profile.h"
#include "model/token_groups.h"
#include "model/weights.h"
#include "ops/op_table.h"

namespace mot {

struct Losses {
  double loss = 0;  // the objective: (weighted ce + z_loss * z^2) summed / total targets, weighted balance losses, and
                    // diffusion's weight * diffusion_sum / total images
  double lm_loss = 0;  // cross-entropy sum / total targets
  double z_loss = 0;   // sum of logsumexp^2 / total targets
  // Load-balance loss of token choice, 1 when even: mean over layers and towers, times the batch's share of the total
  // targets, so that the losses of micro-batches add up.
  double balance_loss = 0;
  std::vector<double> ce_sum;         // [modalities] plain sums over this batch, so that callers can pool batches
  std::vector<int64_t> target_count;  // [modalities]
  double diffusion_sum = 0;           // over images of the image's mean squared error; 0 without diffusion
  int64_t image_count = 0;            // images that it is over
};

// What losses are divided by: those of the whole global batch (all micro-batches). <= 0: the batch's own.
struct Totals {
  int64_t targets = 0;
  int64_t images = 0;  // with noise to predict
};

// Which values of the weights a call computes with.
enum class WeightKind {
  kRaw,  // those that the optimiser changes
  kEma,  // their average; needs limits.ema
};

// What is given of chosen positions.
enum class Output {
  kHidden,   // [D] final hidden state
  kLogits,   // [V]
  kPatches,  // [P] predicted noise or velocity; of positions that are patches
};

struct AdamwOptions {
  double lr, beta1, beta2, eps, weight_decay;
  double clip;   // global gradient norm; <= 0: no clipping
  int64_t step;  // from 1
  // Of each tensor, in the order of weights(): its learning rate as a share of lr. 0: frozen, that is, neither updated
  // nor decayed, and its gradient is not part of the norm. Empty: 1 for all. Another number of them:
  // Error("ERR_ARGUMENT").
  std::vector<double> lr_scales = {};
  // Of the average of the weights, which then takes the weights that this update gives: ema += (1 - ema_decay) *
  // (weight - ema). Needs limits.ema. Absent: the average stays as it is.
  std::optional<double> ema_decay = std::nullopt;
};

struct OptimizerResult {
  double grad_norm;  // of all tensors that are not frozen, before clipping
  bool applied;      // false: the norm was not finite or too large, nothing was changed
};

// One tensor of the memory plan, for `mot describe`.
struct PlanEntry {
  std::string name;
  std::string group;  // "weights", "gradients", "optimizer", "averaged weights", "activations", "gradients of
                      // activations", "cache", "workspace", "tables"
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
  int64_t arena_bytes() const;  // planned
  // Furthest byte used so far, workspace included; equals arena_bytes after a step of all weights.
  int64_t arena_high_water() const;

  // Flat arrays of weights().flat_count() elements. gradients, m, v: nullptr unless limits.training; ema unless
  // limits.ema.
  float* weight_data();
  float* gradient_data();
  float* m_data();
  float* v_data();
  float* ema_data();

  // Draws the weights, which the average of them then equals; zeroes gradients and moments.
  void init(uint64_t seed);
  void zero_gradients();

  // Loss of a batch without gradients. ce and lse [T] (sequence order, 0 without a target) are filled where not null.
  Losses evaluate(const TokenGroups& groups, const Totals& totals, const AbortFlag& abort, float* ce = nullptr,
                  float* lse = nullptr, WeightKind kind = WeightKind::kRaw);

  // Forward and backward; gradients are added. lr_scales: AdamwOptions::lr_scales of the step that they are for; it has
  // no use for gradients of frozen tensors, so those of projections, and of all that lies below the lowest layer that
  // trains, are not computed.
  Losses backward(const TokenGroups& groups, const Totals& totals, const AbortFlag& abort,
                  const std::vector<double>& lr_scales = {});

  // Numbers of an output at one position. Throws Error("ERR_UNSUPPORTED") for one that the model does not have.
  int64_t output_width(Output output) const;

  // Forward of a batch; an output of the given sequence positions [count], f32 [count, output_width].
  void forward(const TokenGroups& groups, const int32_t* positions, int64_t count, Output output, float* values,
               const AbortFlag& abort);

  // For losses of the caller's own: forward, then backward from the gradient with respect to an output of the given
  // positions; gradients are added.
  void backward_from(const TokenGroups& groups, const int32_t* positions, int64_t count, Output output,
                     const float* gradient, const AbortFlag& abort);

  // Clips by the global norm and applies AdamW to all weights that are not frozen; gradients are left (call
  // zero_gradients before the next accumulation). A norm that is not finite or over max_norm changes nothing, the
  // average of the weights neither.
  OptimizerResult adamw(const AdamwOptions& options, double max_norm = std::numeric_limits<double>::infinity());

  // With a KV cache (limits.kv_slots > 0): groups made with KvAddress. Writes the keys and values of these tokens into
  // their slots and gives an output of the chosen positions, f32 [count, output_width]. Prefill and decode are the same
  // call. Slots may be written again: a diffusion loop passes an image's patches once for each timestep. A sequence's
  // calls should all have the same kind of weights.
  void decode(const TokenGroups& groups, const int32_t* positions, int64_t count, Output output, float* values,
              const AbortFlag& abort, WeightKind kind = WeightKind::kRaw);

  // Records every op from now on, until take_profile. A running profile begins anew.
  void start_profile();
  // Ends the profile: its ops in the order in which they ran. Empty where none was started.
  std::vector<OpEvent> take_profile();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Model::output_width of a model of this config.
int64_t output_width(const ModelConfig& config, Output output);

// The memory plan of a model without making it (Model::plan and Model::arena_bytes). Throws as the constructor does.
std::vector<PlanEntry> plan_memory(const ModelConfig& config, const Limits& limits, DType compute,
                                   const OpTable* backend, int threads, int64_t* arena_bytes);

}  // namespace mot
