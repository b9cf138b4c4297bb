#include "addon/abort.h"

#include "core/error.h"

namespace mot::addon {

namespace {
// Marks the objects of this class, so that no other object passes for one.
constexpr napi_type_tag kTag = {0x6d6f742d61626f72, 0x9d0a54c1f7e24b3a};
}  // namespace

Napi::Function Abort::define(Napi::Env env) {
  return DefineClass(env, "Abort", {InstanceMethod<&Abort::abort>("abort")});
}

Abort::Abort(const Napi::CallbackInfo& info) : ObjectWrap(info) { info.This().As<Napi::Object>().TypeTag(&kTag); }

Napi::Value Abort::abort(const Napi::CallbackInfo& info) {
  flag_->store(true);
  return info.Env().Undefined();
}

std::shared_ptr<AbortFlag> Abort::flag_of(const Napi::Value& value) {
  if (value.IsNull() || value.IsUndefined()) return std::make_shared<AbortFlag>(false);
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTag))
    throw errorf("ERR_ARGUMENT", "expected abort to be null or made by createAbort().");
  return Unwrap(value.As<Napi::Object>())->flag_;
}

}  // namespace mot::addon
