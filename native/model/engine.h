// What the parts of a model share: its memory, and calls of ops on it.
#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "core/arena.h"
#include "model/buffers.h"
#include "model/model.h"
#include "model/profile.h"
#include "model/tower_weights.h"

namespace mot {

class Engine {
 public:
  Engine(const ModelConfig& config, const Limits& limits, DType compute, const OpTable* table, int threads);

  const ModelConfig config;
  const Limits limits;
  const DType compute;
  const OpTable* const table;
  const int threads;
  const WeightList list;
  const Buffers buffers;

  bool norms_first() const { return config.norm_placement == NormPlacement::kPre; }

  // The first `rows` rows of a planned buffer; the whole of it counts as used.
  Matrix matrix(BufferId id, int64_t rows) const;
  // The buffer's memory; nullptr for kNoBuffer.
  template <class T>
  T* data(BufferId id) const {
    return id == kNoBuffer ? nullptr : static_cast<T*>(touch(id));
  }
  float* floats(BufferId id) const { return data<float>(id); }
  int64_t high_water() const { return high_water_; }

  // Calls an op of the backend; its failure becomes an exception.
  template <class Params>
  void run(int (*OpTable::*op)(const Context*, const Params*), const Params& params) const {
    const Context context{threads, data<void>(buffers.workspace), buffers.plan.entry(buffers.workspace).bytes};
    const Profile::Clock::time_point begin = profile_ ? Profile::Clock::now() : Profile::Clock::time_point{};
    if ((table->*op)(&context, &params) != 0) throw_last_error();
    if (profile_) profile_->add(params, begin, Profile::Clock::now());
  }

  // While a profile is set, it records every op; nullptr ends that. Returns the one before.
  std::unique_ptr<Profile> set_profile(std::unique_ptr<Profile> profile) {
    return std::exchange(profile_, std::move(profile));
  }

 private:
  void* touch(BufferId id) const;
  [[noreturn]] void throw_last_error() const;

  Arena arena_;
  mutable int64_t high_water_ = 0;
  std::unique_ptr<Profile> profile_;

 public:
  // After the arena that they point into.
  const ModelWeights weights;
  const std::unique_ptr<const ModelWeights> ema;  // nullptr unless limits.ema
};

// The buffers of a model and where they lie, without making it.
Buffers plan_buffers(const ModelConfig& config, const Limits& limits, DType compute, const OpTable* table, int threads);

// One run of a batch through the model.
class Pass {
 public:
  // cached: keys and values go to, and come from, the KV cache. Throws Error("ERR_LIMIT") for groups that were made
  // for other limits, Error("ERR_UNSUPPORTED") for averaged weights that the model does not have.
  Pass(const Engine& engine, const TokenGroups& groups, const AbortFlag& abort, bool cached,
       WeightKind kind = WeightKind::kRaw);

  const Engine& engine;
  const ModelWeights& weights;
  const TokenGroups& groups;
  const Segments self_attn, mlp, final, attention_norm, ffn_norm;
  // How much of the load-balance loss's gradient backward adds: the batch's share of the targets of its global batch.
  double balance_share = 0;
  // AdamwOptions::lr_scales of the step that backward is for: gradients that it has no use for need not be computed.
  // nullptr or empty: all are wanted.
  const std::vector<double>* lr_scales = nullptr;

  Matrix rows(BufferId id) const { return id == kNoBuffer ? Matrix{} : engine.matrix(id, groups.rows); }
  Matrix routed(BufferId id) const { return engine.matrix(id, groups.routed_rows); }  // with experts
  Matrix tokens(BufferId id) const { return engine.matrix(id, groups.tokens); }
  Matrix keys(int64_t layer) const { return key_rows(engine.buffers.k, engine.buffers.cache_k, layer); }
  Matrix values(int64_t layer) const { return key_rows(engine.buffers.v_rows, engine.buffers.cache_v, layer); }

  // Whether some tensor of the tower's weight is not frozen.
  bool trains(const Weight& weight, int64_t tower) const;
  // The lowest layer with a tensor that is not frozen, as in WeightInfo::layer: nothing below it needs a gradient.
  int64_t lowest_trained_layer() const;

  // Throws Error("ERR_ABORTED") when the flag is raised. Called between parts.
  void check_abort() const;

 private:
  Matrix key_rows(BufferId own, BufferId cache, int64_t layer) const;

  const AbortFlag& abort_;
  const bool cached_;
};

}  // namespace mot
