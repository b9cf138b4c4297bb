// The class Abort: raised from JavaScript, read between the parts of a call.
#pragma once
#include <napi.h>

#include <memory>

#include "model/model.h"

namespace mot::addon {

class Abort : public Napi::ObjectWrap<Abort> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit Abort(const Napi::CallbackInfo& info);

  // The flag of an Abort; one of its own for null. Error("ERR_ARGUMENT") for anything else.
  static std::shared_ptr<AbortFlag> flag_of(const Napi::Value& value);

 private:
  Napi::Value abort(const Napi::CallbackInfo& info);

  std::shared_ptr<AbortFlag> flag_ = std::make_shared<AbortFlag>(false);
};

}  // namespace mot::addon
