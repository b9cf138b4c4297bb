#include "model/model.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/thread_team.h"
#include "model/engine.h"
#include "model/head.h"
#include "model/patches.h"
#include "model/train_step.h"

namespace mot {

struct Model::Impl {
  Engine engine;
  Optimizer optimizer;

  Impl(const ModelConfig& config, const Limits& limits, DType compute, const OpTable* backend, int threads)
      : engine(config, limits, compute, backend, threads), optimizer(engine.list) {}

  void require_training(const char* call) const {
    if (!engine.limits.training)
      throw errorf("ERR_UNSUPPORTED", "[model] expected a model created with training to call %s", call);
  }

  // On all threads: with many towers the gradients are large beside what a step computes.
  void zero(BufferId id) const {
    float* values = engine.floats(id);
    if (!values) return;
    constexpr int64_t kPiece = int64_t{1} << 18;
    const int64_t count = engine.list.flat_count();
    parallel_for(engine.threads, (count + kPiece - 1) / kPiece, [&](int64_t piece, int) {
      std::fill(values + piece * kPiece, values + std::min((piece + 1) * kPiece, count), 0.0f);
    });
  }

  // Runs what adds gradients; where it fails or is aborted, half of them would be there, so all are dropped.
  template <class F>
  auto accumulate(const char* call, F&& body) const {
    require_training(call);
    try {
      return body();
    } catch (...) {
      zero(engine.buffers.gradients);
      throw;
    }
  }

  // Forward up to the final hidden state; the chosen rows of it, of which `output` is wanted.
  Matrix hidden_of(const Pass& pass, const int32_t* positions, int64_t count, Output output) const {
    if (output == Output::kPatches) check_patch_positions(pass, positions, count);
    forward_layers(pass);
    final_norm(pass);
    return choose_positions(pass, positions, count);
  }

  void output_of(const Pass& pass, const int32_t* positions, int64_t count, Output output, float* values) const {
    const Matrix chosen = hidden_of(pass, positions, count, output);
    switch (output) {
      case Output::kHidden: return copy_floats(chosen, values);
      case Output::kLogits: return head_logits(pass, chosen, values);
      case Output::kPatches: return predict_noise(pass, chosen, values);
    }
  }

  static void copy_floats(const Matrix& from, float* to) {
    const int64_t count = from.rows * from.cols;
    if (from.dtype == kF32)
      std::memcpy(to, from.data, static_cast<size_t>(count) * sizeof(float));
    else
      for (int64_t i = 0; i < count; i++) to[i] = f32_from_bf16(static_cast<const uint16_t*>(from.data)[i]);
  }
};

Model::Model(const ModelConfig& config, const Limits& limits, DType compute, const OpTable* backend, int threads)
    : impl_(std::make_unique<Impl>(config, limits, compute, backend, threads)) {}
Model::~Model() = default;

const ModelConfig& Model::config() const { return impl_->engine.config; }
const Limits& Model::limits() const { return impl_->engine.limits; }
const WeightList& Model::weights() const { return impl_->engine.list; }
int64_t Model::row_alignment() const { return impl_->engine.table->row_alignment; }
std::vector<PlanEntry> Model::plan() const { return impl_->engine.buffers.plan.entries(); }
int64_t Model::arena_bytes() const { return impl_->engine.buffers.plan.bytes(); }
int64_t Model::arena_high_water() const { return impl_->engine.high_water(); }

float* Model::weight_data() { return impl_->engine.floats(impl_->engine.buffers.weights); }
float* Model::gradient_data() { return impl_->engine.floats(impl_->engine.buffers.gradients); }
float* Model::m_data() { return impl_->engine.floats(impl_->engine.buffers.m); }
float* Model::v_data() { return impl_->engine.floats(impl_->engine.buffers.v); }
float* Model::ema_data() { return impl_->engine.floats(impl_->engine.buffers.ema); }

void Model::init(uint64_t seed) {
  init_weights(config(), weights(), seed, weight_data());
  const Buffers& buffers = impl_->engine.buffers;
  for (BufferId id : {buffers.gradients, buffers.m, buffers.v}) impl_->zero(id);
  if (ema_data()) std::copy_n(weight_data(), weights().flat_count(), ema_data());
}

void Model::zero_gradients() { impl_->zero(impl_->engine.buffers.gradients); }

Losses Model::evaluate(const TokenGroups& groups, const Totals& totals, const AbortFlag& abort, float* ce, float* lse,
                       WeightKind kind) {
  return mot::evaluate(Pass(impl_->engine, groups, abort, false, kind), totals, ce, lse);
}

Losses Model::backward(const TokenGroups& groups, const Totals& totals, const AbortFlag& abort,
                       const std::vector<double>& lr_scales) {
  check_lr_scales(weights(), lr_scales);
  return impl_->accumulate("backward", [&] {
    Pass pass(impl_->engine, groups, abort, false);
    pass.lr_scales = &lr_scales;
    return mot::backward(pass, totals);
  });
}

int64_t Model::output_width(Output output) const { return mot::output_width(config(), output); }

void Model::forward(const TokenGroups& groups, const int32_t* positions, int64_t count, Output output, float* values,
                    const AbortFlag& abort) {
  impl_->output_of(Pass(impl_->engine, groups, abort, false), positions, count, output, values);
}

void Model::backward_from(const TokenGroups& groups, const int32_t* positions, int64_t count, Output output,
                          const float* gradient, const AbortFlag& abort) {
  impl_->accumulate("backward_from", [&] {
    const Pass pass(impl_->engine, groups, abort, false);
    const Matrix chosen = impl_->hidden_of(pass, positions, count, output);
    Matrix d_chosen;
    switch (output) {
      case Output::kHidden: break;
      case Output::kLogits: d_chosen = head_logits_backward(pass, chosen, gradient); break;
      case Output::kPatches: d_chosen = predict_noise_backward(pass, chosen, gradient); break;
    }
    const bool hidden = output == Output::kHidden;
    spread_gradient(pass, positions, count, hidden ? gradient : static_cast<const float*>(d_chosen.data));
    backward_layers(pass);
  });
}

OptimizerResult Model::adamw(const AdamwOptions& options, double max_norm) {
  impl_->require_training("adamw");
  return impl_->optimizer.step(impl_->engine, options, max_norm);
}

// Prefill and decode are the same pass: queries are the call's tokens, keys the slots of the cache.
void Model::decode(const TokenGroups& groups, const int32_t* positions, int64_t count, Output output, float* values,
                   const AbortFlag& abort, WeightKind kind) {
  impl_->output_of(Pass(impl_->engine, groups, abort, true, kind), positions, count, output, values);
}

void Model::start_profile() { impl_->engine.set_profile(std::make_unique<Profile>()); }

std::vector<OpEvent> Model::take_profile() {
  const std::unique_ptr<Profile> profile = impl_->engine.set_profile(nullptr);
  return profile ? profile->take() : std::vector<OpEvent>{};
}

int64_t output_width(const ModelConfig& config, Output output) {
  switch (output) {
    case Output::kHidden: return config.d_model;
    case Output::kLogits: return config.vocab;
    case Output::kPatches: break;
  }
  if (!config.diffusion)
    throw errorf("ERR_UNSUPPORTED", "[model] expected a config with diffusion, because only patches have noise");
  return config.diffusion->patch_dim;
}

std::vector<PlanEntry> plan_memory(const ModelConfig& config, const Limits& limits, DType compute,
                                   const OpTable* backend, int threads, int64_t* arena_bytes) {
  const Buffers buffers = plan_buffers(config, limits, compute, backend, threads);
  *arena_bytes = buffers.plan.bytes();
  return buffers.plan.entries();
}

}  // namespace mot
