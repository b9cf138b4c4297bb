// A thread that runs tasks one after the other.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace mot::addon {

class TaskQueue {
 public:
  TaskQueue() : thread_([this] { run(); }) {}
  // Drops what waits and waits for the running task.
  ~TaskQueue() {
    discard();
    join();
  }
  TaskQueue(const TaskQueue&) = delete;
  TaskQueue& operator=(const TaskQueue&) = delete;

  // Any thread. A task must not throw. After close() or discard() tasks are dropped.
  void post(std::function<void()> task);
  // The thread ends once it has run what waits.
  void close() { shut(false); }
  // The thread ends after the running task; what waits is dropped.
  void discard() { shut(true); }
  // Waits for the end of the thread. Not from the thread itself.
  void join() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  void run();
  void shut(bool drop);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  bool closed_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace mot::addon
