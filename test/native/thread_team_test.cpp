#include "core/thread_team.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "core/cpu_limit.h"

namespace mot {
namespace {

TEST(ThreadTeam, RunsEveryTaskOnce) {
  for (int threads : {1, 2, 3, 8})
    for (int64_t tasks : {0, 1, 2, 3, 7, 64, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      std::atomic<bool> worker_in_range{true};
      parallel_for(threads, tasks, [&](int64_t task, int worker) {
        runs[static_cast<size_t>(task)]++;
        if (worker < 0 || worker >= threads) worker_in_range = false;
      });
      EXPECT_TRUE(worker_in_range) << threads << " threads, " << tasks << " tasks";
      for (auto& count : runs) EXPECT_EQ(count, 1) << threads << " threads, " << tasks << " tasks";
    }
}

// Plain memory that other threads wrote in the region before: a region's end must order its tasks before what follows.
TEST(ThreadTeam, TinyRegionsSeeEachOthersResults) {
  std::vector<int64_t> value(16), next(16);
  for (int64_t region = 0; region < 20000; region++) {
    parallel_for(4, 16, [&](int64_t task, int) {
      next[static_cast<size_t>(task)] = value[static_cast<size_t>((task + 1) % 16)] + 1;
    });
    value.swap(next);
  }
  for (int64_t v : value) EXPECT_EQ(v, 20000);
}

TEST(ThreadTeam, NoWorkerRunsTwoTasksAtOnce) {
  std::atomic<int> inside[8] = {};
  std::atomic<bool> overlap{false};
  for (int region = 0; region < 200; region++)
    parallel_for(8, 100, [&](int64_t, int worker) {
      if (inside[worker]++ != 0) overlap = true;
      inside[worker]--;
    });
  EXPECT_FALSE(overlap);
}

TEST(ThreadTeam, WorkersWakeAfterSleeping) {
  for (int round = 0; round < 5; round++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> waiting{0};
    // Ends only when two threads are inside at once.
    parallel_for(2, 2, [&](int64_t, int) {
      waiting++;
      while (waiting < 2) std::this_thread::yield();
    });
    EXPECT_EQ(waiting, 2);
  }
}

TEST(ThreadTeam, SeveralCallersAtOnce) {
  constexpr int kCallers = 4, kRegions = 500;
  std::vector<int64_t> sums(kCallers);
  std::vector<std::thread> callers;
  for (int c = 0; c < kCallers; c++)
    callers.emplace_back([&sums, c] {
      for (int region = 0; region < kRegions; region++) {
        int64_t part[8] = {};
        parallel_for(2 + c % 3, 8, [&](int64_t task, int) { part[task] = task + c; });
        for (int64_t p : part) sums[static_cast<size_t>(c)] += p;
      }
    });
  for (auto& caller : callers) caller.join();
  for (int c = 0; c < kCallers; c++) EXPECT_EQ(sums[static_cast<size_t>(c)], kRegions * (28 + 8 * c));
}

// A caller that keeps the team busy without a pause must not starve another.
TEST(ThreadTeam, CallersTakeTurns) {
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop)
      parallel_for(2, 4, [](int64_t, int) {
        for (volatile int i = 0; i < 20000;) i = i + 1;
      });
  });
  auto start = std::chrono::steady_clock::now();
  for (int region = 0; region < 50; region++) parallel_for(2, 2, [](int64_t, int) {});
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  stop = true;
  busy.join();
  EXPECT_LT(seconds, 5);
}

TEST(ThreadTeam, CallersComeAndGo) {
  int64_t total = 0;
  for (int i = 0; i < 50; i++)
    std::thread([&] {
      std::atomic<int64_t> sum{0};
      parallel_for(3, 10, [&](int64_t task, int) { sum += task; });
      total += sum;
    }).join();
  EXPECT_EQ(total, 50 * 45);
}

TEST(ThreadTeam, AvailableThreads) {
  EXPECT_GE(available_threads(), 1);
  EXPECT_LE(available_threads(), affinity_cpus());
}

class CgroupTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "mot_cgroup_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  std::string root_;
};

TEST_F(CgroupTest, NoneIsNoLimit) { EXPECT_EQ(cgroup_cpus(root_), 0); }

TEST_F(CgroupTest, Version2TakesTheLeastOfTheGroupAndThoseAbove) {
  write("/proc/self/cgroup", "0::/pod/container\n");
  write("/sys/fs/cgroup/pod/container/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_cpus(root_), 0);
  write("/sys/fs/cgroup/pod/cpu.max", "250000 100000\n");
  EXPECT_EQ(cgroup_cpus(root_), 3);
  write("/sys/fs/cgroup/pod/container/cpu.max", "50000 100000\n");
  EXPECT_EQ(cgroup_cpus(root_), 1);
}

TEST_F(CgroupTest, Version2InsideANamespace) {
  write("/proc/self/cgroup", "0::/\n");
  write("/sys/fs/cgroup/cpu.max", "400000 100000\n");
  EXPECT_EQ(cgroup_cpus(root_), 4);
}

TEST_F(CgroupTest, Version1WithThePathOfTheHost) {
  write("/proc/self/cgroup", "5:cpuset:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n");
  write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpus(root_), 0);
  write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n");
  EXPECT_EQ(cgroup_cpus(root_), 2);
}

}  // namespace
}  // namespace mot
