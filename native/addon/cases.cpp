#include "addon/cases.h"

#include "addon/arguments.h"
#include "addon/environment.h"
#include "addon/results.h"
#include "cases/case.h"

namespace mot::addon {

namespace {

MakeResult report(CaseReport result) {
  return [result = std::move(result)](Napi::Env env) {
    Napi::Object o = Napi::Object::New(env);
    o.Set("worst", result.worst);
    o.Set("message", result.message);
    return o;
  };
}

// (name, device, dtype, threads), as all functions on a backend begin.
struct CaseArguments {
  explicit CaseArguments(const Napi::CallbackInfo& info)
      : name(to_string(info[0], "name")),
        backend(to_backend(info[1], "device")),
        dtype(to_compute_dtype(info[2], "dtype")),
        threads(to_threads(info[3], "threads")) {}
  std::string name;
  const OpTable* backend;
  DType dtype;
  int threads;
};

Napi::Value run(const Napi::CallbackInfo& info, std::function<MakeResult()> work) {
  auto environment = Environment::of(info.Env());
  return environment->run(environment->cases_queue(), std::move(work));
}

}  // namespace

Napi::Value list_cases(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Napi::Array array = Napi::Array::New(info.Env());
    uint32_t i = 0;
    for (const CaseInfo& info_of : case_list()) {
      Napi::Object o = Napi::Object::New(info.Env());
      o.Set("op", info_of.op);
      o.Set("name", info_of.name);
      o.Set("flops", info_of.flops);
      o.Set("bytes", info_of.bytes);
      o.Set("backwardFlops", info_of.backward_flops);
      o.Set("backwardBytes", info_of.backward_bytes);
      array[i++] = o;
    }
    return array;
  });
}

Napi::Value check_case_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return run(info, [a = CaseArguments(info)] { return report(check_case(a.name, a.backend, a.dtype, a.threads)); });
  });
}

Napi::Value check_threads_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return run(info,
               [a = CaseArguments(info)] { return report(check_threads(a.name, a.backend, a.dtype, a.threads)); });
  });
}

Napi::Value check_gradient_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return run(info, [name = to_string(info[0], "name")] { return report(check_gradient(name)); });
  });
}

Napi::Value time_case_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto repeats = static_cast<int>(to_integer(info[4], "repeats", 1, 1'000'000));
    return run(info, [a = CaseArguments(info), repeats]() -> MakeResult {
      return [timing = time_case(a.name, a.backend, a.dtype, a.threads, repeats)](Napi::Env env) {
        Napi::Object o = Napi::Object::New(env);
        o.Set("forwardMs", float64s_to_js(env, timing.forward_ms));
        o.Set("backwardMs", float64s_to_js(env, timing.backward_ms));
        return o;
      };
    });
  });
}

}  // namespace mot::addon
