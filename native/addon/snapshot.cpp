#include "addon/snapshot.h"

#include <utility>

#include "addon/arguments.h"
#include "addon/results.h"
#include "core/error.h"

namespace mot::addon {

Napi::Function Snapshot::define(Napi::Env env) {
  return DefineClass(env, "Snapshot",
                     {InstanceMethod<&Snapshot::save>("save"), InstanceMethod<&Snapshot::dispose>("dispose")});
}

Snapshot::Snapshot(const Napi::CallbackInfo& info) : ObjectWrap(info), environment_(Environment::of(info.Env())) {
  if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "snapshots are made by a session");
  copy_ = *info[0].As<Napi::External<std::shared_ptr<TensorCopy>>>().Data();
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), copy_->bytes());
}

MakeResult Snapshot::make(Environment* environment, std::shared_ptr<TensorCopy> copy) {
  return [environment, copy = std::move(copy)](Napi::Env env) mutable -> Napi::Value {
    return environment->snapshot_class.New({Napi::External<std::shared_ptr<TensorCopy>>::New(env, &copy)});
  };
}

Snapshot::~Snapshot() { release(); }

std::shared_ptr<TensorCopy> Snapshot::release() {
  if (copy_) Napi::MemoryManagement::AdjustExternalMemory(Env(), -copy_->bytes());
  return std::move(copy_);
}

Napi::Value Snapshot::save(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    if (!copy_) throw errorf("ERR_DISPOSED", "the snapshot was disposed; take another.");
    return environment_->run(environment_->files_queue(),
                             [copy = copy_, path = to_path(info[0], "path"), kinds = to_kinds(info[1]),
                              metadata = to_string_map(info[2], "metadata"), stop = &environment_->ending()] {
                               return text(copy->save(path, kinds, metadata, *stop));
                             });
  });
}

Napi::Value Snapshot::dispose(const Napi::CallbackInfo& info) {
  // On the other thread: giving back so many pages takes its time.
  if (auto copy = release()) environment_->files_queue().post([copy = std::move(copy)] {});
  return info.Env().Undefined();
}

}  // namespace mot::addon
