#include "model/plan.h"

#include <algorithm>

#include "core/error.h"

namespace mot {
namespace {

constexpr int64_t kAlignment = 64;
constexpr double kMaxBytes = 0x1p50;

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

void check_bytes(double bytes) {
  if (bytes > kMaxBytes)
    throw errorf("ERR_MEMORY", "[plan] the model and its limits need %.3g bytes; lower the tokens or the model's size",
                 bytes);
}

}  // namespace

BufferId MemoryPlan::add(std::string name, const char* group, DType dtype, std::vector<int64_t> shape,
                         uint32_t phases) {
  double bytes = static_cast<double>(dtype_size(dtype));
  for (int64_t n : shape) bytes *= static_cast<double>(n);
  check_bytes(bytes);
  entries_.push_back({std::move(name), group, dtype_name(dtype), std::move(shape), static_cast<int64_t>(bytes), 0});
  dtypes_.push_back(dtype);
  phases_.push_back(phases);
  return static_cast<BufferId>(entries_.size() - 1);
}

void MemoryPlan::lay_out() {
  std::vector<size_t> shared;
  bytes_ = 0;
  for (size_t i = 0; i < entries_.size(); i++) {
    if (phases_[i] != kAlways) {
      shared.push_back(i);
      continue;
    }
    entries_[i].offset = bytes_;
    bytes_ += aligned(entries_[i].bytes);
    check_bytes(static_cast<double>(bytes_));
  }

  std::stable_sort(shared.begin(), shared.end(),
                   [&](size_t a, size_t b) { return entries_[a].bytes > entries_[b].bytes; });
  const int64_t base = bytes_;
  std::vector<size_t> neighbours;  // placed buffers that live at the same time, by offset
  for (size_t k = 0; k < shared.size(); k++) {
    const size_t i = shared[k];
    neighbours.clear();
    for (size_t j = 0; j < k; j++)
      if (phases_[shared[j]] & phases_[i]) neighbours.push_back(shared[j]);
    std::sort(neighbours.begin(), neighbours.end(),
              [&](size_t a, size_t b) { return entries_[a].offset < entries_[b].offset; });
    int64_t offset = base;
    for (size_t j : neighbours) {
      if (offset + entries_[i].bytes <= entries_[j].offset) break;  // fits before this one
      offset = std::max(offset, entries_[j].offset + aligned(entries_[j].bytes));
    }
    entries_[i].offset = offset;
    bytes_ = std::max(bytes_, offset + aligned(entries_[i].bytes));
    check_bytes(static_cast<double>(bytes_));
  }
}

}  // namespace mot
