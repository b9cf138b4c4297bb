// Times of single ops, recorded while a profile runs. Without one, a call pays one test of a pointer.
#pragma once
#include <chrono>
#include <utility>
#include <vector>

#include "ops/op_cost.h"

namespace mot {

struct OpEvent {
  const char* op;      // name in the op table
  double begin_us;     // on the steady clock, which is also the host's monotonic one
  double duration_us;  // wall clock
  OpCost cost;
};

class Profile {
 public:
  using Clock = std::chrono::steady_clock;

  template <class Params>
  void add(const Params& params, Clock::time_point begin, Clock::time_point end) {
    events_.push_back(
        {op_name(params), microseconds(begin.time_since_epoch()), microseconds(end - begin), op_cost(params)});
  }
  std::vector<OpEvent> take() { return std::move(events_); }

 private:
  static double microseconds(Clock::duration d) { return std::chrono::duration<double, std::micro>(d).count(); }

  std::vector<OpEvent> events_;
};

}  // namespace mot
