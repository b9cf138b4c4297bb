// The limits that the system puts on this process's use of processors.
#pragma once
#include <string>

namespace mot {

// Processors in the affinity mask; at least 1.
int affinity_cpus();

// The CPU quota of the process's control group and of those above it (cgroup v1 and v2), in processors, rounded up;
// 0: no limit. `root` is the folder that holds proc/ and sys/: "/" but in tests.
int cgroup_cpus(const std::string& root);

}  // namespace mot
