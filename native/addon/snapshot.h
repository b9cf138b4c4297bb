// The class Snapshot of the addon: a copy of a model's tensors at one moment, which another thread writes to files
// while the model goes on. Its whole shape is NativeSnapshot in lib/native/types.ts.
#pragma once
#include <napi.h>

#include <memory>

#include "addon/environment.h"
#include "addon/tensor_files.h"

namespace mot::addon {

class Snapshot : public Napi::ObjectWrap<Snapshot> {
 public:
  static Napi::Function define(Napi::Env env);
  // Made by Session::snapshot alone, from an External of a shared pointer to a TensorCopy.
  explicit Snapshot(const Napi::CallbackInfo& info);
  static MakeResult make(Environment* environment, std::shared_ptr<TensorCopy> copy);
  ~Snapshot() override;

 private:
  Napi::Value save(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);
  std::shared_ptr<TensorCopy> release();

  std::shared_ptr<Environment> environment_;
  std::shared_ptr<TensorCopy> copy_;  // a write that goes on holds it, too
};

}  // namespace mot::addon
