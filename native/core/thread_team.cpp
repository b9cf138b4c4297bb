#include "core/thread_team.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "core/cpu_limit.h"

namespace mot {

namespace {

// How long a thread looks for work before it sleeps. The regions of a step follow each other within microseconds;
// waking a sleeping thread costs more than that.
constexpr std::chrono::microseconds kSpin{40};

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A place where one thread waits for a change that other threads make and then announce. Both sides use sequentially
// consistent operations: either the waiter sees the change, or the announcer sees that it sleeps.
class Gate {
 public:
  template <class Ready>
  void wait(Ready ready) {
    auto deadline = std::chrono::steady_clock::now() + kSpin;
    do {
      for (int i = 0; i < 64; i++) {
        if (ready()) return;
        pause_cpu();
      }
    } while (std::chrono::steady_clock::now() < deadline);
    std::unique_lock lock(mutex_);
    asleep_.store(true);
    condition_.wait(lock, ready);
    asleep_.store(false);
  }

  void announce() {
    if (!asleep_.load()) return;
    std::lock_guard lock(mutex_);
    condition_.notify_one();
  }

 private:
  std::atomic<bool> asleep_{false};
  std::mutex mutex_;
  std::condition_variable condition_;
};

// First come, first served: with a plain mutex a session whose regions follow closely would starve the others.
class Turns {
 public:
  void enter() {
    std::unique_lock lock(mutex_);
    uint64_t ticket = next_++;
    condition_.wait(lock, [&] { return serving_ == ticket; });
  }

  void leave() {
    std::lock_guard lock(mutex_);
    serving_++;
    if (serving_ != next_) condition_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  uint64_t next_ = 0, serving_ = 0;
};

// The region that runs, in one word, so that joining it and closing it are single atomic steps: a worker that comes too
// late finds it closed and is not waited for.
struct RegionWord {
  static constexpr uint64_t kActive = 0xffff;  // workers inside
  static constexpr uint64_t kOpen = 1u << 16;  // workers may enter
  static constexpr int kHelpersShift = 17;     // 15 bits: workers 1 .. helpers may enter
  static constexpr int kEpochShift = 32;       // number of the region, modulo 2^32

  static uint64_t open(uint32_t epoch, int helpers) {
    return (uint64_t{epoch} << kEpochShift) | (static_cast<uint64_t>(helpers) << kHelpersShift) | kOpen;
  }
  static uint32_t epoch(uint64_t word) { return static_cast<uint32_t>(word >> kEpochShift); }
  static int helpers(uint64_t word) { return static_cast<int>((word >> kHelpersShift) & 0x7fff); }
};

class Team {
 public:
  void run(int threads, int64_t tasks, TaskFn fn, void* arg) {
    turns_.enter();
    int wanted = threads < kMaxThreads ? threads : kMaxThreads;
    if (tasks < wanted) wanted = static_cast<int>(tasks);
    int helpers = grow_to(wanted - 1);
    fn_ = fn, arg_ = arg, tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    region_.store(RegionWord::open(RegionWord::epoch(region_.load()) + 1, helpers));
    for (int i = 0; i < helpers; i++) workers_[i]->gate.announce();
    run_tasks(0);
    region_.fetch_and(~RegionWord::kOpen);
    caller_gate_.wait([&] { return (region_.load() & RegionWord::kActive) == 0; });
    turns_.leave();
  }

 private:
  struct Worker {
    Gate gate;
  };

  // Returns how many of `helpers` workers there are: fewer where the system refuses more threads.
  int grow_to(int helpers) {
    while (started_ < helpers) {
      Worker* worker = new (std::nothrow) Worker;
      if (!worker) return started_;
      workers_[started_] = worker;
      // Signals belong to the threads of the host.
      sigset_t all, before;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, &before);
      bool created = true;
      try {
        std::thread([this, worker, index = started_ + 1] { work(worker, index); }).detach();
      } catch (const std::system_error&) {
        created = false;
      } catch (const std::bad_alloc&) {
        created = false;
      }
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      if (!created) {
        delete worker;
        return started_;
      }
      started_++;
    }
    return helpers;
  }

  void work(Worker* self, int index) {
#if defined(__linux__)
    pthread_setname_np(pthread_self(), "mot-worker");
#endif
    uint32_t done = 0;  // the last region that this worker was in
    for (;;) {
      uint64_t word = 0;
      self->gate.wait([&] {
        word = region_.load();
        return (word & RegionWord::kOpen) && index <= RegionWord::helpers(word) && RegionWord::epoch(word) != done;
      });
      if (!region_.compare_exchange_strong(word, word + 1)) continue;
      done = RegionWord::epoch(word);
      run_tasks(index);
      uint64_t before = region_.fetch_sub(1);
      if (!(before & RegionWord::kOpen) && (before & RegionWord::kActive) == 1) caller_gate_.announce();
    }
  }

  void run_tasks(int worker) {
    for (int64_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) fn_(arg_, task, worker);
  }

  Turns turns_;
  Gate caller_gate_;
  // Written by the caller whose turn it is, while the region is closed and no worker is inside.
  TaskFn fn_ = nullptr;
  void* arg_ = nullptr;
  int64_t tasks_ = 0;
  int started_ = 0;
  Worker* workers_[kMaxThreads] = {};
  alignas(64) std::atomic<uint64_t> region_{0};
  alignas(64) std::atomic<int64_t> next_{0};
};

}  // namespace

void parallel_for(int threads, int64_t tasks, TaskFn fn, void* arg) {
  if (threads <= 1 || tasks <= 1) {
    for (int64_t task = 0; task < tasks; task++) fn(arg, task, 0);
    return;
  }
  // Never destroyed: workers may still be waiting when the process exits.
  static Team* team = new Team;
  team->run(threads, tasks, fn, arg);
}

int available_threads() {
  int allowed = affinity_cpus();
  int quota = cgroup_cpus("/");
  int count = quota > 0 && quota < allowed ? quota : allowed;
  return count < kMaxThreads ? count : kMaxThreads;
}

}  // namespace mot
