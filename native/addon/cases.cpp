#include "addon/cases.h"

#include "addon/arguments.h"
#include "addon/environment.h"
#include "addon/results.h"
#include "cases/case.h"
#include "cpu/limits.h"

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
      Napi::Object shape = Napi::Object::New(info.Env());
      for (const auto& [name, size] : info_of.shape) shape.Set(name, static_cast<double>(size));
      o.Set("shape", shape);
      Napi::Array groups = Napi::Array::New(info.Env());
      for (size_t g = 0; g < info_of.groups.size(); g++)
        groups[static_cast<uint32_t>(g)] = Napi::Number::New(info.Env(), static_cast<double>(info_of.groups[g]));
      o.Set("groups", groups);
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

Napi::Value time_cases_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    std::vector<std::string> names;
    const Napi::Array array = to_array(info[0], "names");
    for (uint32_t i = 0; i < array.Length(); i++) names.push_back(to_string(array[i], "names"));
    const OpTable* backend = to_backend(info[1], "device");
    const DType dtype = to_compute_dtype(info[2], "dtype");
    const int threads = to_threads(info[3], "threads");
    const auto repeats = static_cast<int>(to_integer(info[4], "repeats", 1, 1'000'000));
    return run(info, [=]() -> MakeResult {
      return [timings = time_cases(names, backend, dtype, threads, repeats)](Napi::Env env) {
        Napi::Array cases = Napi::Array::New(env);
        for (size_t i = 0; i < timings.size(); i++) {
          Napi::Array calls = Napi::Array::New(env);
          for (size_t j = 0; j < timings[i].size(); j++) {
            const CallTiming& timing = timings[i][j];
            Napi::Object o = Napi::Object::New(env);
            o.Set("call", timing.call);
            o.Set("flops", timing.flops);
            o.Set("bytes", timing.bytes);
            o.Set("ms", float64s_to_js(env, timing.ms));
            calls[static_cast<uint32_t>(j)] = o;
          }
          cases[static_cast<uint32_t>(i)] = calls;
        }
        return cases;
      };
    });
  });
}

Napi::Value measure_limits_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return run(info, [threads = to_threads(info[0], "threads")]() -> MakeResult {
      return [limits = measure_limits(threads)](Napi::Env env) {
        Napi::Object o = Napi::Object::New(env);
        o.Set("f32Gflops", limits.f32_gflops);
        o.Set("bf16Gflops", limits.bf16_gflops);
        o.Set("readGbps", limits.read_gbps);
        o.Set("copyGbps", limits.copy_gbps);
        return o;
      };
    });
  });
}

}  // namespace mot::addon
