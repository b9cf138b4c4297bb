// The op cases of native/cases, for tests and benchmarks in JavaScript.
#pragma once
#include <napi.h>

namespace mot::addon {

Napi::Value list_cases(const Napi::CallbackInfo& info);
Napi::Value check_case_of(const Napi::CallbackInfo& info);
Napi::Value check_gradient_of(const Napi::CallbackInfo& info);
Napi::Value check_threads_of(const Napi::CallbackInfo& info);
Napi::Value time_cases_of(const Napi::CallbackInfo& info);
Napi::Value measure_limits_of(const Napi::CallbackInfo& info);

}  // namespace mot::addon
