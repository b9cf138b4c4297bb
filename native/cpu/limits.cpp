#include "cpu/limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "core/arena.h"
#include "core/error.h"
#include "core/thread_team.h"
#include "ops/op_table.h"

namespace mot {

namespace generic {
extern const PeakKernels peak_kernels;
}
#if defined(__x86_64__)
namespace avx2 {
extern const PeakKernels peak_kernels;
}
namespace avx512 {
extern const PeakKernels peak_kernels;
}
namespace avx512bf16 {
extern const PeakKernels peak_kernels;
}
#endif

namespace {

constexpr int64_t kStreamBytes = int64_t{256} << 20;
constexpr int64_t kChunkBytes = int64_t{1} << 20;  // of one task
// Of one probe: runs at least, and seconds at least. Many short runs find a moment when the processor is ours alone.
constexpr int kRuns = 8;
constexpr double kSeconds = 0.12;

const PeakKernels& kernels_in_use() {
  const char* why = "";
  const OpTable* backend = cpu_backend(&why);
  if (!backend) throw Error("ERR_UNSUPPORTED", why);
  for (const PeakKernels* kernels : {
         &generic::peak_kernels,
#if defined(__x86_64__)
             &avx2::peak_kernels, &avx512::peak_kernels, &avx512bf16::peak_kernels,
#endif
       })
    if (std::strcmp(kernels->variant, backend->variant) == 0) return *kernels;
  throw errorf("ERR_INTERNAL", "there are no probes of the limits for %s", backend->variant);
}

// Runs body(task) once for each task and gives the seconds of the fastest of several runs.
template <class Body>
double fastest(int threads, int64_t tasks, const Body& body) {
  double best = 1e30, total = 0;
  for (int run = 0; run < kRuns || total < kSeconds; run++) {
    const auto begin = std::chrono::steady_clock::now();
    parallel_for(threads, tasks, [&](int64_t task, int) { body(task); });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

double peak_gflops(int threads, float (*kernel)(int64_t), double flops_of_round) {
  // About a millisecond a task on any machine of today; several tasks a thread, so that all end together.
  constexpr int64_t kRounds = 50'000;
  const int64_t tasks = 16 * threads;
  std::atomic<float> sink = 0;
  const double seconds =
      fastest(threads, tasks, [&](int64_t) { sink.store(kernel(kRounds), std::memory_order_relaxed); });
  return flops_of_round * static_cast<double>(kRounds * tasks) / seconds * 1e-9;
}

}  // namespace

MachineLimits measure_limits(int threads) {
  const PeakKernels& kernels = kernels_in_use();
  MachineLimits limits;
  limits.f32_gflops = peak_gflops(threads, kernels.multiply_add_f32, kernels.f32_flops);
  limits.bf16_gflops = peak_gflops(threads, kernels.multiply_add_bf16, kernels.bf16_flops);

  // Read as one stream; copied from its first half to its second.
  Arena memory(kStreamBytes);
  auto* from = reinterpret_cast<float*>(memory.data());
  auto* to = reinterpret_cast<float*>(memory.data() + kStreamBytes / 2);
  constexpr int64_t kChunk = kChunkBytes / 4, kTasks = kStreamBytes / kChunkBytes;
  // Written once: pages that nobody wrote may all be one page of zeros.
  parallel_for(threads, kTasks, [&](int64_t task, int) { std::memset(from + task * kChunk, 0x3f, kChunkBytes); });
  std::atomic<float> sink = 0;
  const double read = fastest(threads, kTasks, [&](int64_t task) {
    sink.store(kernels.read(from + task * kChunk, kChunk), std::memory_order_relaxed);
  });
  const double copy = fastest(threads, kTasks / 2,
                              [&](int64_t task) { kernels.copy(to + task * kChunk, from + task * kChunk, kChunk); });
  const double copy_around = fastest(threads, kTasks / 2, [&](int64_t task) {
    kernels.copy_around(to + task * kChunk, from + task * kChunk, kChunk);
  });
  limits.read_gbps = static_cast<double>(kStreamBytes) / read * 1e-9;
  limits.copy_gbps = static_cast<double>(kStreamBytes) / std::min(copy, copy_around) * 1e-9;
  return limits;
}

}  // namespace mot
