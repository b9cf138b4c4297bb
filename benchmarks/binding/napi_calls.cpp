// The functions of the binding benchmark through node-addon-api, made as those of native/addon are.
#include <napi.h>

namespace {

// Does nothing.
void empty(const Napi::CallbackInfo&) {}

// Reads the pointer of a Float32Array and gives its first element.
Napi::Value first(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), info[0].As<Napi::Float32Array>().Data()[0]);
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("empty", Napi::Function::New<empty>(env, "empty"));
  exports.Set("first", Napi::Function::New<first>(env, "first"));
  return exports;
}

}  // namespace

NODE_API_MODULE(napi_calls, init)
