// Case objects: one case of an op gives its shapes, inputs, calls, tolerance, FLOPs and bytes once. The test compares a
// backend with the reference in f64, the gradient check compares the reference's backward with finite differences,
// the benchmark times the same calls. They live in the library, not in the tests, because `mot bench` and the addon's
// checks use them too.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "ops/op_table.h"

namespace mot {

struct OpCase;  // native/cases/case_types.h

// The case of that name. Throws Error("ERR_ARGUMENT").
const OpCase& find_case(const std::string& name);

struct CaseReport {
  double worst = 0;     // largest error / tolerance over all outputs; passes when <= 1 (NaN fails)
  std::string message;  // output, index, both values, tolerance; empty when it passes
};

// One call of an op in a case, timed by itself.
struct CallTiming {
  std::string call;        // its name without the op's: "forward", "backward", "d_x", "d_w"
  double flops, bytes;     // as op_cost.h counts them, in the dtype that was timed
  std::vector<double> ms;  // one per round
};

struct CaseInfo {
  std::string op, name;  // name is unique: "rms_norm/three_towers_residual"
  double flops, bytes;   // of the forward call; backward in backward_flops, backward_bytes
  double backward_flops, backward_bytes;
  std::vector<int64_t> groups = {};                         // rows of each group of a case made for timing
  std::vector<std::pair<std::string, int64_t>> shape = {};  // its sizes by name; see case_list.cpp
};

std::vector<CaseInfo> case_list();

// Runs forward and backward on `backend` with outputs poisoned with NaN, and compares every output with the reference
// backend in f64 on the same (rounded) inputs. Throws Error("ERR_ARGUMENT") for an unknown name.
CaseReport check_case(const std::string& name, const OpTable* backend, DType dtype, int threads);
// The same for several backends with one run of the reference.
std::vector<CaseReport> check_case(const std::string& name, const std::vector<const OpTable*>& backends, DType dtype,
                                   int threads);

// Central differences of sum(d_out * forward) in f64 against the reference's backward, on a sample of elements of every
// differentiable input. Ops without a backward report 0.
CaseReport check_gradient(const std::string& name);

// Bits of every output with 1 and with `threads` threads; worst is 0 when all are equal, else 2.
CaseReport check_threads(const std::string& name, const OpTable* backend, DType dtype, int threads);

// Times every call of several cases, taking the cases in turn, so that a clock that wanders meets all of them alike.
// `repeats` rounds after one to warm up. An op called twice in a case (linear_cross_entropy) is named "forward" and
// "backward". Gives the calls of each case.
std::vector<std::vector<CallTiming>> time_cases(const std::vector<std::string>& names, const OpTable* backend,
                                                DType dtype, int threads, int repeats);

}  // namespace mot
