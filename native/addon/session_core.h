// The part of a session that knows no JavaScript: a model and its two threads. Calls go through both in the order in
// which they were made: the first prepares (validates and sorts a batch) while the second still computes the call
// before.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "addon/task_queue.h"
#include "model/model.h"

namespace mot::addon {

struct SessionOptions {
  const OpTable* backend;
  DType compute;
  int threads;
  Limits limits;
};

class SessionCore : public std::enable_shared_from_this<SessionCore> {
 public:
  // One call. Neither function throws; both see `dropped()` when they need not bother.
  struct Call {
    std::function<void()> prepare;  // may be empty
    std::function<void()> run;
    std::shared_ptr<AbortFlag> abort;
  };

  SessionCore() = default;
  ~SessionCore() {
    stop();
    join();
  }

  // Engine thread: makes the model. Throws Error.
  void create(const ModelConfig& config, const SessionOptions& options);
  Model& model() { return *model_; }
  // Engine thread, after a call.
  void note_high_water() { high_water_ = model_->arena_high_water(); }

  // Facts that any thread may read once create() is done.
  const ModelConfig& config() const { return config_; }
  const Limits& limits() const { return options_.limits; }
  int threads() const { return options_.threads; }
  const std::vector<WeightInfo>& tensors() const { return tensors_; }
  const std::vector<PlanEntry>& plan() const { return plan_; }
  int64_t arena_bytes() const { return arena_bytes_; }
  int64_t high_water() const { return high_water_; }
  int64_t row_alignment() const { return options_.backend->row_alignment; }

  // JavaScript thread.
  void submit(Call call);
  // Raises the abort flags of all calls, which then are dropped instead of run; no further ones come.
  void drop_calls();
  bool dropped() const { return dropped_; }
  // After drop_calls(): frees the model on the engine thread, then calls `done` there; the threads end.
  void free_model(std::function<void()> done);
  // drop_calls() without a wish to settle them: the threads end after the running call.
  void stop();
  // After stop() or free_model(): waits for the threads, then frees what is left. Idempotent.
  void join();

 private:
  ModelConfig config_;
  SessionOptions options_{};
  std::vector<WeightInfo> tensors_;
  std::vector<PlanEntry> plan_;
  int64_t arena_bytes_ = 0;
  std::atomic<int64_t> high_water_{0};
  std::unique_ptr<Model> model_;

  std::atomic<bool> dropped_{false};
  std::mutex mutex_;
  std::vector<std::shared_ptr<AbortFlag>> active_;  // of the calls that are not done

  TaskQueue engine_, prepare_;  // last: their threads use the others
};

}  // namespace mot::addon
