// The memory plan: one list of every buffer with its shape and the phases in which it lives, laid out in one arena
// before the first step. Buffers that share no phase may share memory.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "model/model.h"

namespace mot {

// The phases that a step runs through; those of a layer are repeated for each layer. A buffer must live in every phase
// from the one that fills it to the last that reads it. Sets of phases are made with |.
enum Phase : uint32_t {
  kForwardAttention = 1 << 0,  // the embedding included
  kForwardMlp = 1 << 1,
  kLoss = 1 << 2,    // final norm, then the head with its losses
  kChosen = 1 << 3,  // final norm, then the head on chosen rows
  kBackwardMlp = 1 << 4,
  kBackwardAttention = 1 << 5,  // the embedding included
  kOptimizer = 1 << 6,
  kForward = kForwardAttention | kForwardMlp,
  kHead = kLoss | kChosen,
  kBackward = kBackwardMlp | kBackwardAttention,
  kAlways = (1 << 7) - 1,
};

// Index of a buffer in its plan; kNoBuffer: not planned.
using BufferId = int32_t;
constexpr BufferId kNoBuffer = -1;

class MemoryPlan {
 public:
  BufferId add(std::string name, const char* group, DType dtype, std::vector<int64_t> shape, uint32_t phases);
  // Gives every buffer its offset, aligned to 64 bytes: buffers that always live in the order of the list, then the
  // others, largest first, each at the lowest place that is free in all its phases. Throws Error("ERR_MEMORY") where
  // the sum is beyond any machine.
  void lay_out();

  const std::vector<PlanEntry>& entries() const { return entries_; }
  const PlanEntry& entry(BufferId id) const { return entries_[id]; }
  DType dtype(BufferId id) const { return dtypes_[id]; }
  uint32_t phases(BufferId id) const { return phases_[id]; }
  int64_t bytes() const { return bytes_; }

 private:
  std::vector<PlanEntry> entries_;
  std::vector<DType> dtypes_;
  std::vector<uint32_t> phases_;
  int64_t bytes_ = 0;
};

}  // namespace mot
