// What the addon keeps for each JavaScript environment (the main thread, every worker thread): nothing is shared
// between them but the thread team. All of it goes when the environment ends, running calls included.
#pragma once
#include <napi.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "addon/task_queue.h"

namespace mot::addon {

class SessionCore;

// An exception on its way to JavaScript.
struct Failure {
  std::string code, message;
};
// Of the exception that is being handled.
Failure current_failure();
Napi::Error to_js(Napi::Env env, const Failure& failure);

// Makes a call's result; runs on the JavaScript thread.
using MakeResult = std::function<Napi::Value(Napi::Env)>;

class Environment {
 public:
  explicit Environment(Napi::Env env);
  ~Environment();
  static const std::shared_ptr<Environment>& of(Napi::Env env);
  static void install(Napi::Env env, std::shared_ptr<Environment> environment);

  // A promise for work on `queue`; while it pends the process stays alive.
  Napi::Value run(TaskQueue& queue, std::function<MakeResult()> work);
  // The same in steps. begin: JavaScript thread.
  Napi::Promise::Deferred begin();
  // Any thread, once for each begin(): settles the promise on the JavaScript thread. `before` runs there first.
  void resolve(Napi::Promise::Deferred deferred, MakeResult result, std::function<void()> before = {});
  void reject(Napi::Promise::Deferred deferred, Failure failure, std::function<void()> before = {});
  // Any thread: runs `settle` on the JavaScript thread, but does not keep the process alive for it.
  void later(std::function<void(Napi::Env)> settle);

  // Long work without a session. Made at first use; JavaScript thread.
  TaskQueue& cases_queue();
  TaskQueue& files_queue();
  // Raised when the environment ends, which waits for running tasks. Any thread.
  const std::atomic<bool>& ending() const { return ending_; }

  // Sessions whose threads are to end with the environment. JavaScript thread.
  void add(std::shared_ptr<SessionCore> core);
  void remove(const std::shared_ptr<SessionCore>& core);

  Napi::FunctionReference session_class, snapshot_class, safetensors_class, abort_class;

 private:
  struct Settlement {
    std::function<void(Napi::Env)> run;
    bool counted;  // was begun by begin()
  };

  void finish(Settlement settlement);
  void drain();
  void end();

  Napi::Env env_;
  napi_threadsafe_function wake_ = nullptr;
  int64_t pending_ = 0;  // begun and not settled; JavaScript thread
  std::mutex mutex_;
  std::vector<Settlement> settled_;
  bool ended_ = false;
  std::atomic<bool> ending_{false};
  std::set<std::shared_ptr<SessionCore>> cores_;
  std::unique_ptr<TaskQueue> cases_queue_, files_queue_;
};

// Runs the body of a function called from JavaScript: C++ exceptions become JavaScript errors with a code.
template <class F>
Napi::Value guarded(Napi::Env env, F&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js(env, current_failure());
  }
}

}  // namespace mot::addon
