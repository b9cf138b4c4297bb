#include "addon/session.h"

#include <utility>

#include "addon/abort.h"
#include "addon/results.h"
#include "core/error.h"

namespace mot::addon {

Napi::Function Session::define(Napi::Env env) {
  return DefineClass(env, "Session",
                     {InstanceMethod<&Session::tensors>("tensors"),
                      InstanceMethod<&Session::plan>("plan"),
                      InstanceMethod<&Session::memory>("memory"),
                      InstanceMethod<&Session::init>("init"),
                      InstanceMethod<&Session::zero_gradients>("zeroGradients"),
                      InstanceMethod<&Session::step>("step"),
                      InstanceMethod<&Session::backward>("backward"),
                      InstanceMethod<&Session::adamw>("adamw"),
                      InstanceMethod<&Session::evaluate>("evaluate"),
                      InstanceMethod<&Session::log_probs>("logProbs"),
                      InstanceMethod<&Session::forward>("forward"),
                      InstanceMethod<&Session::backward_from>("backwardFrom"),
                      InstanceMethod<&Session::decode>("decode"),
                      InstanceMethod<&Session::read_tensor>("readTensor"),
                      InstanceMethod<&Session::write_tensor>("writeTensor"),
                      InstanceMethod<&Session::save>("save"),
                      InstanceMethod<&Session::snapshot>("snapshot"),
                      InstanceMethod<&Session::load>("load"),
                      InstanceMethod<&Session::start_profile>("startProfile"),
                      InstanceMethod<&Session::take_profile>("takeProfile"),
                      InstanceMethod<&Session::dispose>("dispose")});
}

Napi::Value Session::create(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto environment = Environment::of(info.Env());
    ModelConfig config = to_config(info[0]);
    SessionOptions options = to_session_options(info[1]);
    auto core = std::make_shared<SessionCore>();
    environment->add(core);
    Napi::Promise::Deferred deferred = environment->begin();
    // On failure the core, still empty, goes at once.
    auto drop = [environment, core] {
      core->stop();
      core->join();
      environment->remove(core);
    };
    auto run = [environment = environment.get(), core = core.get(), config = std::move(config), options, deferred,
                drop] {
      try {
        core->create(config, options);
        environment->resolve(deferred, [environment, core](Napi::Env env) -> Napi::Value {
          Napi::MemoryManagement::AdjustExternalMemory(env, core->arena_bytes());
          return environment->session_class.New({Napi::External<SessionCore>::New(env, core)});
        });
      } catch (...) {
        environment->reject(deferred, current_failure(), drop);
      }
    };
    core->submit({{}, std::move(run), std::make_shared<AbortFlag>(false)});
    return deferred.Promise();
  });
}

Session::Session(const Napi::CallbackInfo& info) : ObjectWrap(info), environment_(Environment::of(info.Env())) {
  if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "sessions are made by createSession()");
  core_ = info[0].As<Napi::External<SessionCore>>().Data()->shared_from_this();
}

Session::~Session() {
  if (core_ && disposal_.IsEmpty()) free_model([](Napi::Env) {});
}

void Session::free_model(std::function<void(Napi::Env)> done) {
  // Not `this`, which may be gone before.
  auto settle = [environment = environment_, core = core_, done = std::move(done)](Napi::Env env) {
    core->join();  // its threads have nothing left to do
    environment->remove(core);
    Napi::MemoryManagement::AdjustExternalMemory(env, -core->arena_bytes());
    done(env);
  };
  core_->drop_calls();
  core_->free_model([environment = environment_.get(), settle = std::move(settle)] { environment->later(settle); });
}

Napi::Value Session::call(const Napi::Value& abort, std::function<void()> prepare, Work work) {
  static constexpr const char* kDisposed = "the model was disposed; create another.";
  auto flag = Abort::flag_of(abort);
  if (core_->dropped()) throw Error("ERR_DISPOSED", kDisposed);
  Napi::Promise::Deferred deferred = environment_->begin();
  if (pending_++ == 0) Ref();
  auto before = [this] {
    if (--pending_ == 0) Unref();
  };
  SessionCore* core = core_.get();
  Environment* environment = environment_.get();

  auto failure = std::make_shared<Failure>();  // of the preparation
  auto prepare_safely = [core, flag, failure, prepare = std::move(prepare)] {
    if (!prepare || *flag || core->dropped()) return;
    try {
      prepare();
    } catch (...) {
      *failure = current_failure();
    }
  };
  auto run = [core, environment, flag, failure, deferred, before, work = std::move(work)] {
    auto reject = [&](Failure why) {
      if (core->dropped()) why = {"ERR_DISPOSED", kDisposed};
      environment->reject(deferred, std::move(why), before);
    };
    if (*flag || core->dropped()) return reject({"ERR_ABORTED", "the call was aborted."});
    if (!failure->code.empty()) return reject(*failure);
    try {
      MakeResult result = work(core->model(), *flag);
      core->note_high_water();
      environment->resolve(deferred, std::move(result), before);
    } catch (...) {
      reject(current_failure());
    }
  };
  core->submit({std::move(prepare_safely), std::move(run), flag});
  return deferred.Promise();
}

Napi::Value Session::tensors(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return tensors_to_js(info.Env(), core_->tensors()); });
}

Napi::Value Session::plan(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return plan_to_js(info.Env(), core_->plan()); });
}

Napi::Value Session::memory(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    Napi::Object o = Napi::Object::New(info.Env());
    o.Set("arenaBytes", static_cast<double>(core_->arena_bytes()));
    o.Set("highWaterBytes", static_cast<double>(core_->high_water()));
    return o;
  });
}

Napi::Value Session::dispose(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (disposal_.IsEmpty()) {
      // The object stays until its last call is settled, which is before the memory is free; the promise lives on.
      Napi::Promise::Deferred deferred = environment_->begin();
      Napi::Object holder = Napi::Object::New(info.Env());
      holder.Set("promise", deferred.Promise());
      disposal_ = Napi::Persistent(holder);
      free_model(
          [environment = environment_.get(), deferred](Napi::Env) { environment->resolve(deferred, nothing()); });
    }
    return disposal_.Value().Get("promise");
  });
}

}  // namespace mot::addon
