#include "addon/session_core.h"

#include <algorithm>
#include <utility>

namespace mot::addon {

void SessionCore::create(const ModelConfig& config, const SessionOptions& options) {
  config_ = config;
  options_ = options;
  model_ = std::make_unique<Model>(config, options.limits, options.compute, options.backend, options.threads);
  tensors_ = model_->weights().all();
  plan_ = model_->plan();
  arena_bytes_ = model_->arena_bytes();
}

void SessionCore::submit(Call call) {
  {
    std::lock_guard lock(mutex_);
    active_.push_back(call.abort);
  }
  prepare_.post([this, call = std::move(call)] {
    if (call.prepare) call.prepare();
    engine_.post([this, call] {
      call.run();
      std::lock_guard lock(mutex_);
      active_.erase(std::find(active_.begin(), active_.end(), call.abort));
    });
  });
}

void SessionCore::drop_calls() {
  dropped_ = true;
  std::lock_guard lock(mutex_);
  for (const auto& abort : active_) abort->store(true);
}

void SessionCore::free_model(std::function<void()> done) {
  prepare_.post([this, done = std::move(done)] {
    engine_.post([this, done] {
      model_.reset();
      done();
    });
    engine_.close();
  });
  prepare_.close();
}

void SessionCore::stop() {
  drop_calls();
  prepare_.discard();
  engine_.discard();
}

void SessionCore::join() {
  prepare_.join();  // first: it feeds the other
  engine_.join();
  model_.reset();
}

}  // namespace mot::addon
