// Timing of cases: the same calls as the tests, through a table that stands before the backend's and holds a clock.
#include <chrono>
#include <memory>

#include "cases/case_data.h"
#include "core/error.h"
#include "ops/op_cost.h"

namespace mot {

namespace {

// Of the case that runs on this thread. The functions of an OpTable have no argument of their own, hence the pointer.
struct Recorder {
  const OpTable* backend;
  std::string op, half;  // of the case; "forward" or "backward"
  bool keep;             // false: a round to warm up
  std::vector<CallTiming>* calls;

  template <class Params>
  int run(int (*function)(const Context*, const Params*), const Context* context, const Params* params) {
    const auto begin = std::chrono::steady_clock::now();
    const int status = function(context, params);
    const auto end = std::chrono::steady_clock::now();
    if (keep) timing(*params).ms.push_back(std::chrono::duration<double, std::milli>(end - begin).count());
    return status;
  }

 private:
  template <class Params>
  CallTiming& timing(const Params& params) {
    std::string name = op_name(params);
    name = name.size() > op.size() ? name.substr(op.size() + 1) : half;
    for (CallTiming& known : *calls)
      if (known.call == name) return known;
    const OpCost cost = op_cost(params);
    calls->push_back({name, cost.flops, cost.bytes, {}});
    return calls->back();
  }
};

thread_local Recorder* recorder = nullptr;

#define MOT_TIMED_OP(function, Params)                                  \
  int timed_##function(const Context* context, const Params* params) {  \
    return recorder->run(recorder->backend->function, context, params); \
  }
MOT_OPS(MOT_TIMED_OP)
#undef MOT_TIMED_OP

OpTable timed(const OpTable& backend) {
  OpTable table = backend;
#define MOT_TIMED_ENTRY(function, Params) table.function = timed_##function;
  MOT_OPS(MOT_TIMED_ENTRY)
#undef MOT_TIMED_ENTRY
  return table;
}

// A case with its memory.
struct Contender {
  Contender(const OpCase& op_case, const OpTable& backend, DType dtype, int threads)
      : op_case(op_case), data(op_case, dtype), workspace(op_case, backend, dtype, threads) {}
  const OpCase& op_case;
  CaseData data;
  CaseWorkspace workspace;
};

}  // namespace

std::vector<std::vector<CallTiming>> time_cases(const std::vector<std::string>& names, const OpTable* backend,
                                                DType dtype, int threads, int repeats) {
  std::vector<std::unique_ptr<Contender>> contenders;
  for (const std::string& name : names)
    contenders.push_back(std::make_unique<Contender>(find_case(name), *backend, dtype, threads));
  const OpTable table = timed(*backend);
  std::vector<std::vector<CallTiming>> timings(names.size());
  for (int round = -1; round < repeats; round++)
    for (size_t i = 0; i < contenders.size(); i++) {
      Contender& c = *contenders[i];
      const Context context = c.workspace.context();
      for (const CaseCall* call : {&c.op_case.forward, &c.op_case.backward}) {
        if (!*call) continue;
        Recorder current = {backend, c.op_case.info.op, call == &c.op_case.forward ? "forward" : "backward", round >= 0,
                            &timings[i]};
        recorder = &current;
        const int status = (*call)(table, context, c.data);
        recorder = nullptr;
        if (status != 0)
          throw errorf("ERR_INTERNAL", "[case %s] the %s backend refused: %s", c.op_case.info.name.c_str(),
                       backend->name, backend->last_error());
      }
    }
  return timings;
}

}  // namespace mot
