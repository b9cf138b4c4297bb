// The calls of a session that compute: batches are prepared on one thread and run on the other.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "addon/results.h"
#include "addon/session.h"
#include "addon/snapshot.h"
#include "addon/tensor_files.h"
#include "core/error.h"

namespace mot::addon {

namespace {

// A batch on its way: the arrays that came, then what the kernels need.
struct Prepared {
  OwnedBatch batch;
  TokenGroups groups;

  void make_groups(const SessionCore& core) {
    KvAddress kv;
    if (!batch.slot.empty()) kv = {batch.slot.data(), core.limits().kv_slots};
    groups = make_token_groups(core.config(), core.limits(), core.row_alignment(), batch.view(), kv);
    batch = {};
  }
};

std::shared_ptr<Prepared> read_batch(const Napi::Value& value, const SessionCore& core, Slots slots = Slots::kNone) {
  auto prepared = std::make_shared<Prepared>();
  prepared->batch = to_batch(value, slots, core.config());
  return prepared;
}

// Positions of a batch of `tokens`; `distinct` where a position must not come twice.
std::vector<int32_t> to_positions(const Napi::Value& value, size_t tokens, bool distinct) {
  std::vector<int32_t> positions = to_int32s(value, "positions");
  if (positions.size() > tokens)
    throw errorf("ERR_ARGUMENT", "expected at most %zu positions, as the batch has tokens, got %zu.", tokens,
                 positions.size());
  std::vector<bool> seen(distinct ? tokens : 0);
  for (size_t i = 0; i < positions.size(); i++) {
    const int32_t p = positions[i];
    if (p < 0 || static_cast<size_t>(p) >= tokens)
      throw errorf("ERR_ARGUMENT", "expected positions[%zu] from 0 to %zu, got %d.", i, tokens - 1, p);
    if (!distinct) continue;
    if (seen[static_cast<size_t>(p)])
      throw errorf("ERR_ARGUMENT", "expected distinct positions, got %d a second time at positions[%zu].", p, i);
    seen[static_cast<size_t>(p)] = true;
  }
  return positions;
}

void add_losses(Losses& sum, const Losses& losses) {
  sum.loss += losses.loss;
  sum.lm_loss += losses.lm_loss;
  sum.z_loss += losses.z_loss;
  sum.balance_loss += losses.balance_loss;
  sum.ce_sum.resize(losses.ce_sum.size());
  sum.target_count.resize(losses.target_count.size());
  for (size_t m = 0; m < losses.ce_sum.size(); m++) {
    sum.ce_sum[m] += losses.ce_sum[m];
    sum.target_count[m] += losses.target_count[m];
  }
  sum.diffusion_sum += losses.diffusion_sum;
  sum.image_count += losses.image_count;
}

struct StepReport {
  Losses losses;
  OptimizerResult optimizer;
  double elapsed_ms;
};

// What a step's loss and gradient norm may be at most, for the step to change anything; infinite: any finite number.
struct StepLimits {
  double max_loss, max_grad_norm;
};

StepLimits to_step_limits(const Napi::Value& value) {
  const Napi::Object o = to_object(value, "limits");
  auto limit = [&](const char* key) {
    const Napi::Value number = o.Get(key);
    if (!number.IsNumber() || std::isnan(number.As<Napi::Number>().DoubleValue()))
      throw errorf("ERR_ARGUMENT", "expected limits.%s to be a number, or Infinity for no limit.", key);
    return number.As<Napi::Number>().DoubleValue();
  };
  return {limit("maxLoss"), limit("maxGradNorm")};
}

StepReport train_step(Model& model, const std::vector<std::shared_ptr<Prepared>>& micro_batches,
                      const AdamwOptions& options, const StepLimits& limits, const AbortFlag& abort) {
  const auto began = std::chrono::steady_clock::now();
  Totals totals;
  for (const auto& prepared : micro_batches) {
    for (int64_t count : prepared->groups.target_count) totals.targets += count;
    totals.images += prepared->groups.patches.predicted_images;
  }
  StepReport report{};
  model.zero_gradients();
  for (const auto& prepared : micro_batches)
    add_losses(report.losses, model.backward(prepared->groups, totals, abort, options.lr_scales));
  // The last moment to turn back: from here on weights change.
  if (abort) {
    model.zero_gradients();
    throw errorf("ERR_ABORTED", "the call was aborted.");
  }
  // No norm is below -1: a loss that is refused leaves the optimizer nothing to do but to tell the norm.
  const bool usual = std::isfinite(report.losses.loss) && report.losses.loss <= limits.max_loss;
  report.optimizer = model.adamw(options, usual ? limits.max_grad_norm : -1);
  report.elapsed_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
  return report;
}

Napi::Object optimizer_to_js(Napi::Env env, Napi::Object o, const OptimizerResult& result) {
  o.Set("gradNorm", result.grad_norm);
  o.Set("applied", Napi::Boolean::New(env, result.applied));
  return o;
}

}  // namespace

Napi::Value Session::step(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    Napi::Array list = to_array(info[0], "microBatches");
    if (list.Length() == 0) throw errorf("ERR_ARGUMENT", "expected at least one micro-batch.");
    std::vector<std::shared_ptr<Prepared>> batches;
    for (uint32_t i = 0; i < list.Length(); i++) batches.push_back(read_batch(list.Get(i), *core_));
    const AdamwOptions options = to_adamw(info[1]);
    const StepLimits limits = to_step_limits(info[2]);
    auto prepare = [batches, core = core_.get()] {
      for (const auto& prepared : batches) prepared->make_groups(*core);
    };
    return call(info[3], prepare, [batches, options, limits](Model& model, const AbortFlag& abort) -> MakeResult {
      return [report = train_step(model, batches, options, limits, abort)](Napi::Env env) -> Napi::Value {
        Napi::Object o = optimizer_to_js(env, losses_to_js(env, report.losses), report.optimizer);
        o.Set("elapsedMs", report.elapsed_ms);
        return o;
      };
    });
  });
}

Napi::Value Session::backward(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto prepared = read_batch(info[0], *core_);
    constexpr int64_t kMost = int64_t{1} << 53;
    const Totals totals{to_integer(info[1], "totalTargets", 0, kMost), to_integer(info[2], "totalImages", 0, kMost)};
    return call(
        info[3], [prepared, core = core_.get()] { prepared->make_groups(*core); },
        [prepared, totals](Model& model, const AbortFlag& abort) -> MakeResult {
          return [losses = model.backward(prepared->groups, totals, abort)](Napi::Env env) {
            return losses_to_js(env, losses);
          };
        });
  });
}

Napi::Value Session::adamw(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return call(info.Env(), [options = to_adamw(info[0])](Model& model, const AbortFlag&) -> MakeResult {
      return [result = model.adamw(options)](Napi::Env env) {
        return optimizer_to_js(env, Napi::Object::New(env), result);
      };
    });
  });
}

Napi::Value Session::evaluate(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto prepared = read_batch(info[0], *core_);
    const WeightKind kind = to_weight_kind(info[1]);
    return call(
        info[2], [prepared, core = core_.get()] { prepared->make_groups(*core); },
        [prepared, kind](Model& model, const AbortFlag& abort) -> MakeResult {
          return [losses = model.evaluate(prepared->groups, {}, abort, nullptr, nullptr, kind)](Napi::Env env) {
            return losses_to_js(env, losses);
          };
        });
  });
}

Napi::Value Session::log_probs(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto prepared = read_batch(info[0], *core_);
    return call(
        info[1], [prepared, core = core_.get()] { prepared->make_groups(*core); },
        [prepared](Model& model, const AbortFlag& abort) {
          std::vector<float> values(static_cast<size_t>(prepared->groups.tokens));
          model.evaluate(prepared->groups, {}, abort, values.data());
          for (float& x : values) x = 0.0f - x;  // cross-entropy to log-probability; 0 stays +0
          return float32s(std::move(values));
        });
  });
}

Napi::Value Session::forward(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto prepared = read_batch(info[0], *core_);
    auto positions = to_positions(info[1], prepared->batch.token.size(), false);
    const Output output = to_output(info[2]);
    return call(
        info[3], [prepared, core = core_.get()] { prepared->make_groups(*core); },
        [prepared, positions = std::move(positions), output](Model& model, const AbortFlag& abort) {
          const auto count = static_cast<int64_t>(positions.size());
          std::vector<float> values(static_cast<size_t>(count * model.output_width(output)));
          model.forward(prepared->groups, positions.data(), count, output, values.data(), abort);
          return float32s(std::move(values));
        });
  });
}

Napi::Value Session::backward_from(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto prepared = read_batch(info[0], *core_);
    auto positions = to_positions(info[1], prepared->batch.token.size(), true);
    const Output output = to_output(info[2]);
    std::vector<float> gradient = to_float32s(info[3], "gradient");
    const auto width = static_cast<size_t>(output_width(core_->config(), output));
    if (gradient.size() != positions.size() * width)
      throw errorf("ERR_ARGUMENT", "expected gradient to have %zu x %zu numbers, got %zu.", positions.size(), width,
                   gradient.size());
    return call(
        info[4], [prepared, core = core_.get()] { prepared->make_groups(*core); },
        [prepared, positions = std::move(positions), output, gradient = std::move(gradient)](Model& model,
                                                                                             const AbortFlag& abort) {
          check_finite("the gradient", gradient.data(), static_cast<int64_t>(gradient.size()));
          const auto count = static_cast<int64_t>(positions.size());
          model.backward_from(prepared->groups, positions.data(), count, output, gradient.data(), abort);
          return nothing();
        });
  });
}

Napi::Value Session::decode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    if (core_->limits().kv_slots == 0)
      throw errorf("ERR_LIMIT", "the model has no KV cache: create it with kv_slots of at least the longest sequence.");
    auto prepared = read_batch(info[0], *core_, Slots::kRequired);
    auto positions = to_positions(info[1], prepared->batch.token.size(), false);
    const Output output = to_output(info[2]);
    const WeightKind kind = to_weight_kind(info[3]);
    return call(
        info[4], [prepared, core = core_.get()] { prepared->make_groups(*core); },
        [prepared, positions = std::move(positions), output, kind](Model& model, const AbortFlag& abort) {
          const auto count = static_cast<int64_t>(positions.size());
          std::vector<float> values(static_cast<size_t>(count * model.output_width(output)));
          model.decode(prepared->groups, positions.data(), count, output, values.data(), abort, kind);
          return float32s(std::move(values));
        });
  });
}

Napi::Value Session::init(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return call(info.Env(), [seed = to_seed(info[0], "seed")](Model& model, const AbortFlag&) {
      model.init(seed);
      return nothing();
    });
  });
}

Napi::Value Session::zero_gradients(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return call(info.Env(), [](Model& model, const AbortFlag&) {
      tensor_data(model, TensorKind::kGradient);  // an error where there are none
      model.zero_gradients();
      return nothing();
    });
  });
}

Napi::Value Session::start_profile(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return call(info.Env(), [](Model& model, const AbortFlag&) {
      model.start_profile();
      return nothing();
    });
  });
}

Napi::Value Session::take_profile(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return call(info.Env(), [](Model& model, const AbortFlag&) -> MakeResult {
      return [events = model.take_profile()](Napi::Env env) { return op_events_to_js(env, events); };
    });
  });
}

Napi::Value Session::read_tensor(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const TensorKind kind = tensor_kind(to_string(info[0], "kind"));
    return call(info.Env(), [kind, name = to_string(info[1], "name")](Model& model, const AbortFlag&) {
      const WeightInfo& weight = model.weights().at(name);
      const float* data = tensor_data(model, kind) + weight.offset;
      return float32s(std::vector<float>(data, data + weight.count));
    });
  });
}

Napi::Value Session::write_tensor(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const TensorKind kind = tensor_kind(to_string(info[0], "kind"));
    return call(info.Env(), [kind, name = to_string(info[1], "name"), values = to_float32s(info[2], "values")](
                                Model& model, const AbortFlag&) {
      const WeightInfo& weight = model.weights().at(name);
      float* data = tensor_data(model, kind) + weight.offset;
      if (values.size() != static_cast<size_t>(weight.count))
        throw Error("ERR_ARGUMENT", "expected " + std::to_string(weight.count) + " values for " + name + ", got " +
                                        std::to_string(values.size()) + ".");
      check_finite(name, values.data(), weight.count);
      std::copy(values.begin(), values.end(), data);
      return nothing();
    });
  });
}

Napi::Value Session::save(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return call(info.Env(), [path = to_path(info[0], "path"), kinds = to_kinds(info[1]),
                             metadata = to_string_map(info[2], "metadata")](Model& model, const AbortFlag& abort) {
      return text(save_tensors(model, path, kinds, metadata, abort));
    });
  });
}

Napi::Value Session::snapshot(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return call(info.Env(), [kinds = to_kinds(info[0]), core = core_.get(), environment = environment_.get()](
                                Model& model, const AbortFlag&) {
      return Snapshot::make(environment, std::make_shared<TensorCopy>(model, kinds, core->threads()));
    });
  });
}

Napi::Value Session::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return call(info.Env(),
                [path = to_path(info[0], "path"), kinds = to_kinds(info[1])](Model& model, const AbortFlag&) {
                  load_tensors(model, path, kinds);
                  return nothing();
                });
  });
}

}  // namespace mot::addon
