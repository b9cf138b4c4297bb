// Safetensors files: the class that reads them and the function that writes them.
#pragma once
#include <napi.h>

#include <memory>

#include "io/safetensors.h"

namespace mot::addon {

// NativeSafetensors in lib/native/types.ts.
class SafetensorsReader : public Napi::ObjectWrap<SafetensorsReader> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit SafetensorsReader(const Napi::CallbackInfo& info);  // (path)

 private:
  Napi::Value tensors(const Napi::CallbackInfo& info);
  Napi::Value metadata(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  const SafetensorsFile& file() const;

  std::unique_ptr<SafetensorsFile> file_;
};

Napi::Value open_safetensors(const Napi::CallbackInfo& info);
Napi::Value write_safetensors_file(const Napi::CallbackInfo& info);

}  // namespace mot::addon
