// Makes JavaScript values.
#pragma once
#include <napi.h>

#include <string>
#include <vector>

#include "addon/environment.h"
#include "model/model.h"

namespace mot::addon {

Napi::Object tensor_to_js(Napi::Env env, const std::string& name, const std::vector<int64_t>& shape);
Napi::Array tensors_to_js(Napi::Env env, const std::vector<WeightInfo>& tensors);
Napi::Array plan_to_js(Napi::Env env, const std::vector<PlanEntry>& plan);
Napi::Object losses_to_js(Napi::Env env, const Losses& losses);
Napi::Array op_events_to_js(Napi::Env env, const std::vector<OpEvent>& events);
Napi::Value float64s_to_js(Napi::Env env, const std::vector<double>& values);

// Result of a call that gives nothing, a text, floats.
MakeResult nothing();
MakeResult text(std::string value);
// Large arrays are handed over, not copied: the event loop is held no longer for them.
MakeResult float32s(std::vector<float> values);

}  // namespace mot::addon
