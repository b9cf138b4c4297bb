// One team of worker threads for the whole process, shared by all sessions.
//
// A region is a count of tasks; threads take the next index from one counter, so a thread that the system holds back
// costs no more than the task it holds. Tasks are independent, or wait for nothing but tasks of lower index, which were
// taken before. Which thread runs a task is arbitrary: a task must own its outputs
// and do its reductions in a fixed order, which makes results the same bits for any number of threads.
#pragma once
#include <cstdint>
#include <type_traits>

namespace mot {

// task: index of the task; worker: 0 .. threads-1, for per-worker scratch.
using TaskFn = void (*)(void* arg, int64_t task, int worker);

// Runs fn(arg, 0..tasks-1, worker) on up to `threads` threads, the caller among them, and returns when all are done.
// Callers of different sessions take turns, region by region. fn must not throw and must not call parallel_for.
void parallel_for(int threads, int64_t tasks, TaskFn fn, void* arg);

// The same for a callable: parallel_for(threads, n, [&](int64_t task, int worker) {...}).
template <class F>
void parallel_for(int threads, int64_t tasks, F&& f) {
  using Body = std::remove_reference_t<F>;
  parallel_for(
      threads, tasks, [](void* arg, int64_t task, int worker) { (*static_cast<Body*>(arg))(task, worker); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

// Threads that this process may use: the CPU affinity mask and the container's CPU quota, whichever is less; at
// least 1.
int available_threads();

constexpr int kMaxThreads = 256;

}  // namespace mot
