#include "addon/environment.h"

#include <utility>

#include "addon/session_core.h"
#include "core/error.h"

namespace mot::addon {

Failure current_failure() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.code(), error.what()};
  } catch (const std::bad_alloc&) {
    return {"ERR_MEMORY", "the system has not enough memory for this call; use a smaller batch or model."};
  } catch (const std::exception& error) {
    return {"ERR_INTERNAL", std::string("a defect of this package: ") + error.what()};
  } catch (...) {
    return {"ERR_INTERNAL", "a defect of this package: an unknown exception"};
  }
}

Napi::Error to_js(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.message);
  error.Set("code", Napi::String::New(env, failure.code));
  return error;
}

Environment::Environment(Napi::Env env) : env_(env) {
  napi_value name = Napi::String::New(env, "mixture-of-transformers");
  auto drain = [](napi_env env, napi_value, void* self, void*) {
    if (env) static_cast<Environment*>(self)->drain();  // no env: the environment is ending
  };
  napi_status status =
      napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, drain, &wake_);
  if (status != napi_ok) throw Napi::Error::New(env);
  napi_unref_threadsafe_function(env, wake_);
  // Hooks run last in, first out: threads end before the function that they call.
  napi_add_env_cleanup_hook(
      env, [](void* self) { static_cast<Environment*>(self)->end(); }, this);
}

Environment::~Environment() = default;

const std::shared_ptr<Environment>& Environment::of(Napi::Env env) {
  return *env.GetInstanceData<std::shared_ptr<Environment>>();
}

void Environment::install(Napi::Env env, std::shared_ptr<Environment> environment) {
  env.SetInstanceData(new std::shared_ptr<Environment>(std::move(environment)));
}

void Environment::end() {
  ending_ = true;
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  for (const auto& core : cores_) core->stop();  // all of them before waiting for one
  for (const auto& core : cores_) core->join();
  cores_.clear();
  cases_queue_.reset();
  files_queue_.reset();
  napi_release_threadsafe_function(wake_, napi_tsfn_abort);
  settled_.clear();
}

Napi::Promise::Deferred Environment::begin() {
  auto deferred = Napi::Promise::Deferred::New(env_);
  if (pending_++ == 0) napi_ref_threadsafe_function(env_, wake_);
  return deferred;
}

void Environment::finish(Settlement settlement) {
  std::lock_guard lock(mutex_);
  if (ended_) return;
  settled_.push_back(std::move(settlement));
  napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
}

void Environment::resolve(Napi::Promise::Deferred deferred, MakeResult result, std::function<void()> before) {
  finish({[deferred, result = std::move(result), before = std::move(before)](Napi::Env env) {
            if (before) before();
            Napi::Value value;
            try {
              value = result(env);
            } catch (const Napi::Error& error) {
              deferred.Reject(error.Value());
              return;
            } catch (...) {
              deferred.Reject(to_js(env, current_failure()).Value());
              return;
            }
            deferred.Resolve(value);
          },
          true});
}

void Environment::reject(Napi::Promise::Deferred deferred, Failure failure, std::function<void()> before) {
  finish({[deferred, failure = std::move(failure), before = std::move(before)](Napi::Env env) {
            if (before) before();
            deferred.Reject(to_js(env, failure).Value());
          },
          true});
}

void Environment::later(std::function<void(Napi::Env)> settle) { finish({std::move(settle), false}); }

void Environment::drain() {
  std::vector<Settlement> settled;
  {
    std::lock_guard lock(mutex_);
    settled.swap(settled_);
  }
  for (const Settlement& settlement : settled) {
    try {
      Napi::HandleScope scope(env_);
      settlement.run(env_);
    } catch (const Napi::Error&) {
      // JavaScript cannot run any more: the worker is being terminated, nobody waits for the promise.
    }
    if (settlement.counted && --pending_ == 0) napi_unref_threadsafe_function(env_, wake_);
  }
}

Napi::Value Environment::run(TaskQueue& queue, std::function<MakeResult()> work) {
  Napi::Promise::Deferred deferred = begin();
  queue.post([this, deferred, work = std::move(work)] {
    try {
      resolve(deferred, work());
    } catch (...) {
      reject(deferred, current_failure());
    }
  });
  return deferred.Promise();
}

TaskQueue& Environment::cases_queue() {
  if (!cases_queue_) cases_queue_ = std::make_unique<TaskQueue>();
  return *cases_queue_;
}

TaskQueue& Environment::files_queue() {
  if (!files_queue_) files_queue_ = std::make_unique<TaskQueue>();
  return *files_queue_;
}

void Environment::add(std::shared_ptr<SessionCore> core) { cores_.insert(std::move(core)); }

void Environment::remove(const std::shared_ptr<SessionCore>& core) { cores_.erase(core); }

}  // namespace mot::addon
