#include "core/cpu_limit.h"

#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace mot {

namespace {

// Quota / period from one group's folder; 0: none set.
double quota_v2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");  // "max 100000" or "150000 100000"
  double quota = 0, period = 0;
  return (file >> quota >> period) && quota > 0 && period > 0 ? quota / period : 0;
}

double quota_v1(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us"), period_file(folder + "/cpu.cfs_period_us");  // -1: none
  double quota = 0, period = 0;
  return (quota_file >> quota) && (period_file >> period) && quota > 0 && period > 0 ? quota / period : 0;
}

// The least quota from the group `path` up to the hierarchy's root at `mount`. A container may see the host's path,
// which does not exist below its own mount: then the root, which is the container's group, is what counts.
double least_quota(const std::string& mount, std::string path, double (*quota_of)(const std::string&)) {
  double least = 0;
  for (;;) {
    double quota = quota_of(mount + path);
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
    if (path.empty()) return least;
    path.erase(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/'));
  }
}

bool names_cpu(const std::string& controllers) {
  std::istringstream list(controllers);
  for (std::string name; std::getline(list, name, ',');)
    if (name == "cpu") return true;
  return false;
}

}  // namespace

int affinity_cpus() {
#if defined(__linux__)
  // Grown until the kernel's mask fits.
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
    std::vector<cpu_set_t> mask(static_cast<size_t>(cpus) / CPU_SETSIZE);
    size_t bytes = mask.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, mask.data()) == 0) {
      int count = CPU_COUNT_S(bytes, mask.data());
      return count > 0 ? count : 1;
    }
  }
#endif
  unsigned count = std::thread::hardware_concurrency();
  return count > 0 ? static_cast<int>(count) : 1;
}

int cgroup_cpus(const std::string& root) {
  double least = 0;
  auto take = [&](double quota) {
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
  };
  // Lines are "id:controllers:path"; v2 has id 0 and no controllers.
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (path == "/") path.clear();
    if (controllers.empty())
      take(least_quota(root + "/sys/fs/cgroup", path, quota_v2));
    else if (names_cpu(controllers))
      for (const char* mount : {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"})
        take(least_quota(root + mount, path, quota_v1));
  }
  return static_cast<int>(std::ceil(least));
}

}  // namespace mot
