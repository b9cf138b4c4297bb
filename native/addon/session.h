// The class Session of the addon: reads arguments, hands calls to a SessionCore, makes results. Its whole shape is
// NativeSession in lib/native/types.ts.
#pragma once
#include <napi.h>

#include <memory>

#include "addon/arguments.h"
#include "addon/environment.h"
#include "addon/session_core.h"

namespace mot::addon {

class Session : public Napi::ObjectWrap<Session> {
 public:
  static Napi::Function define(Napi::Env env);
  // createSession(config, options)
  static Napi::Value create(const Napi::CallbackInfo& info);

  explicit Session(const Napi::CallbackInfo& info);
  // A session that nobody disposed of: its memory goes too.
  ~Session() override;

 private:
  // Computes on the engine thread; throws Error.
  using Work = std::function<MakeResult(Model&, const AbortFlag&)>;

  Napi::Value tensors(const Napi::CallbackInfo& info);
  Napi::Value plan(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo& info);
  Napi::Value init(const Napi::CallbackInfo& info);
  Napi::Value zero_gradients(const Napi::CallbackInfo& info);
  Napi::Value start_profile(const Napi::CallbackInfo& info);
  Napi::Value take_profile(const Napi::CallbackInfo& info);
  Napi::Value step(const Napi::CallbackInfo& info);
  Napi::Value backward(const Napi::CallbackInfo& info);
  Napi::Value adamw(const Napi::CallbackInfo& info);
  Napi::Value evaluate(const Napi::CallbackInfo& info);
  Napi::Value log_probs(const Napi::CallbackInfo& info);
  Napi::Value forward(const Napi::CallbackInfo& info);
  Napi::Value backward_from(const Napi::CallbackInfo& info);
  Napi::Value decode(const Napi::CallbackInfo& info);
  Napi::Value read_tensor(const Napi::CallbackInfo& info);
  Napi::Value write_tensor(const Napi::CallbackInfo& info);
  Napi::Value save(const Napi::CallbackInfo& info);
  Napi::Value snapshot(const Napi::CallbackInfo& info);
  Napi::Value load(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  // A promise for a call; `abort` is null or a NativeAbort, `prepare` may be empty.
  Napi::Value call(const Napi::Value& abort, std::function<void()> prepare, Work work);
  Napi::Value call(Napi::Env env, Work work) { return call(env.Null(), {}, std::move(work)); }
  // Frees the model; `done` runs on the JavaScript thread once that is so.
  void free_model(std::function<void(Napi::Env)> done);

  std::shared_ptr<Environment> environment_;
  std::shared_ptr<SessionCore> core_;
  int64_t pending_ = 0;             // calls that are not settled; while there are any, the object is not collected
  Napi::ObjectReference disposal_;  // {promise}, once dispose() was called
};

}  // namespace mot::addon
