#include "addon/results.h"

#include <cstring>
#include <memory>
#include <utility>

namespace mot::addon {

namespace {

Napi::Array shape_to_js(Napi::Env env, const std::vector<int64_t>& shape) {
  Napi::Array array = Napi::Array::New(env, shape.size());
  for (uint32_t i = 0; i < shape.size(); i++) array[i] = Napi::Number::New(env, static_cast<double>(shape[i]));
  return array;
}

Napi::Number number(Napi::Env env, int64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

// A Float32Array's buffer over the vector's own memory; empty where this runtime allows no such buffers.
Napi::Value adopt(Napi::Env env, std::vector<float>& values) {
  auto owner = std::make_unique<std::vector<float>>(std::move(values));
  auto release = [](napi_env, void*, void* hint) { delete static_cast<std::vector<float>*>(hint); };
  napi_value buffer;
  napi_status status = napi_create_external_arraybuffer(env, owner->data(), owner->size() * sizeof(float), release,
                                                        owner.get(), &buffer);
  if (status != napi_ok) {
    values = std::move(*owner);
    return {};
  }
  owner.release();
  return {env, buffer};
}

}  // namespace

Napi::Object tensor_to_js(Napi::Env env, const std::string& name, const std::vector<int64_t>& shape) {
  Napi::Object tensor = Napi::Object::New(env);
  tensor.Set("name", name);
  tensor.Set("shape", shape_to_js(env, shape));
  return tensor;
}

Napi::Array tensors_to_js(Napi::Env env, const std::vector<WeightInfo>& tensors) {
  Napi::Array array = Napi::Array::New(env, tensors.size());
  for (uint32_t i = 0; i < tensors.size(); i++) array[i] = tensor_to_js(env, tensors[i].name, tensors[i].shape);
  return array;
}

Napi::Array plan_to_js(Napi::Env env, const std::vector<PlanEntry>& plan) {
  Napi::Array array = Napi::Array::New(env, plan.size());
  for (uint32_t i = 0; i < plan.size(); i++) {
    Napi::Object entry = tensor_to_js(env, plan[i].name, plan[i].shape);
    entry.Set("group", plan[i].group);
    entry.Set("dtype", plan[i].dtype);
    entry.Set("bytes", number(env, plan[i].bytes));
    entry.Set("offset", number(env, plan[i].offset));
    array[i] = entry;
  }
  return array;
}

Napi::Array op_events_to_js(Napi::Env env, const std::vector<OpEvent>& events) {
  Napi::Array array = Napi::Array::New(env, events.size());
  for (uint32_t i = 0; i < events.size(); i++) {
    const OpEvent& event = events[i];
    Napi::Object o = Napi::Object::New(env);
    o.Set("op", event.op);
    o.Set("beginUs", event.begin_us);
    o.Set("durationUs", event.duration_us);
    o.Set("flops", event.cost.flops);
    o.Set("bytes", event.cost.bytes);
    array[i] = o;
  }
  return array;
}

Napi::Value float64s_to_js(Napi::Env env, const std::vector<double>& values) {
  Napi::Float64Array array = Napi::Float64Array::New(env, values.size());
  for (size_t i = 0; i < values.size(); i++) array[i] = values[i];
  return array;
}

Napi::Object losses_to_js(Napi::Env env, const Losses& losses) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("loss", losses.loss);
  o.Set("lmLoss", losses.lm_loss);
  o.Set("zLoss", losses.z_loss);
  o.Set("balanceLoss", losses.balance_loss);
  o.Set("ceSum", float64s_to_js(env, losses.ce_sum));
  o.Set("targetCount", float64s_to_js(env, {losses.target_count.begin(), losses.target_count.end()}));
  o.Set("diffusionSum", losses.diffusion_sum);
  o.Set("imageCount", number(env, losses.image_count));
  return o;
}

MakeResult nothing() {
  return [](Napi::Env env) { return env.Undefined(); };
}

MakeResult text(std::string value) {
  return [value = std::move(value)](Napi::Env env) { return Napi::String::New(env, value); };
}

MakeResult float32s(std::vector<float> values) {
  constexpr size_t kWorthAdopting = size_t{1} << 16;
  auto shared = std::make_shared<std::vector<float>>(std::move(values));
  return [shared](Napi::Env env) -> Napi::Value {
    const size_t count = shared->size();
    if (count >= kWorthAdopting) {
      Napi::Value buffer = adopt(env, *shared);
      if (!buffer.IsEmpty()) return Napi::Float32Array::New(env, count, buffer.As<Napi::ArrayBuffer>(), 0);
    }
    Napi::Float32Array array = Napi::Float32Array::New(env, count);
    if (count > 0) std::memcpy(array.Data(), shared->data(), count * sizeof(float));
    return array;
  };
}

}  // namespace mot::addon
