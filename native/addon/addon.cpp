// The addon's exports: NativeAddon in lib/native/types.ts.
#include <napi.h>

#include <algorithm>
#include <memory>

#include "addon/abort.h"
#include "addon/arguments.h"
#include "addon/cases.h"
#include "addon/environment.h"
#include "addon/files.h"
#include "addon/results.h"
#include "addon/session.h"
#include "addon/snapshot.h"
#include "core/thread_team.h"
#include "cpu/backend.h"

namespace mot::addon {

namespace {

constexpr int kContractVersion = 7;  // as in lib/native/load.ts

Napi::Value cpu(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Napi::Object o = Napi::Object::New(info.Env());
    const char* why = "";
    const OpTable* backend = cpu_backend(&why);
    o.Set("variant", backend ? backend->variant : "");
    if (!backend) o.Set("error", why);
    constexpr int kMax = 16;
    const char* names[kMax];
    const int count = std::min(cpu_variants(names, kMax), kMax);
    Napi::Array available = Napi::Array::New(info.Env());
    for (int i = 0; i < count; i++) available[static_cast<uint32_t>(i)] = Napi::String::New(info.Env(), names[i]);
    o.Set("available", available);
    o.Set("threads", available_threads());
    return o;
  });
}

Napi::Value create_abort(const Napi::CallbackInfo& info) { return Environment::of(info.Env())->abort_class.New({}); }

Napi::Value describe(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const ModelConfig config = to_config(info[0]);
    const SessionOptions options = to_session_options(info[1]);
    int64_t arena_bytes = 0;
    const auto plan =
        plan_memory(config, options.limits, options.compute, options.backend, options.threads, &arena_bytes);
    Napi::Object o = Napi::Object::New(info.Env());
    o.Set("tensors", tensors_to_js(info.Env(), WeightList(config).all()));
    o.Set("plan", plan_to_js(info.Env(), plan));
    o.Set("arenaBytes", static_cast<double>(arena_bytes));
    return o;
  });
}

}  // namespace

Napi::Object install(Napi::Env env, Napi::Object exports) {
  auto environment = std::make_shared<Environment>(env);
  environment->session_class = Napi::Persistent(Session::define(env));
  environment->snapshot_class = Napi::Persistent(Snapshot::define(env));
  environment->safetensors_class = Napi::Persistent(SafetensorsReader::define(env));
  environment->abort_class = Napi::Persistent(Abort::define(env));
  Environment::install(env, std::move(environment));

  exports.Set("version", kContractVersion);
  exports.Set("cpu", Napi::Function::New<cpu>(env, "cpu"));
  exports.Set("createAbort", Napi::Function::New<create_abort>(env, "createAbort"));
  exports.Set("createSession", Napi::Function::New<Session::create>(env, "createSession"));
  exports.Set("describe", Napi::Function::New<describe>(env, "describe"));
  exports.Set("openSafetensors", Napi::Function::New<open_safetensors>(env, "openSafetensors"));
  exports.Set("writeSafetensors", Napi::Function::New<write_safetensors_file>(env, "writeSafetensors"));
  exports.Set("cases", Napi::Function::New<list_cases>(env, "cases"));
  exports.Set("checkCase", Napi::Function::New<check_case_of>(env, "checkCase"));
  exports.Set("checkGradient", Napi::Function::New<check_gradient_of>(env, "checkGradient"));
  exports.Set("checkThreads", Napi::Function::New<check_threads_of>(env, "checkThreads"));
  exports.Set("timeCases", Napi::Function::New<time_cases_of>(env, "timeCases"));
  exports.Set("measureLimits", Napi::Function::New<measure_limits_of>(env, "measureLimits"));
  return exports;
}

}  // namespace mot::addon

static Napi::Object init_addon(Napi::Env env, Napi::Object exports) { return mot::addon::install(env, exports); }

NODE_API_MODULE(mot, init_addon)
