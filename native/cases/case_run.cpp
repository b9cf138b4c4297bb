#include <cmath>
#include <cstdio>
#include <limits>

#include "cases/case_data.h"
#include "core/error.h"
#include "core/rng.h"

namespace mot {

namespace {

void call(const CaseCall& function, const OpCase& op_case, const OpTable& backend, const CaseWorkspace& workspace,
          CaseArgs& args) {
  Context context = workspace.context();
  if (function(backend, context, args) != 0)
    throw errorf("ERR_INTERNAL", "[case %s] the %s backend refused: %s", op_case.info.name.c_str(), backend.name,
                 backend.last_error());
  if (!workspace.intact())
    throw errorf("ERR_INTERNAL", "[case %s] the %s backend used more workspace than it asked for",
                 op_case.info.name.c_str(), backend.name);
}

// The dtype that the reference runs in beside a backend in `dtype`.
DType exact(const OpCase& op_case) { return op_case.f64 ? kF64 : kF32; }

// Objective of the gradient check: sum of outputs times their given gradients.
double objective(const OpCase& op_case, const CaseData& data) {
  double sum = 0;
  for (const auto& [output, gradient] : op_case.outputs) {
    const CaseTensor *y = nullptr, *d_y = nullptr;
    for (const CaseTensor& t : op_case.tensors) {
      if (t.name == output) y = &t;
      if (t.name == gradient) d_y = &t;
    }
    for (int64_t i = 0; i < y->towers * y->rows * y->cols; i++) sum += data.get(*y, i) * data.get(*d_y, i);
  }
  return sum;
}

const CaseTensor& tensor(const OpCase& op_case, const std::string& name) {
  for (const CaseTensor& t : op_case.tensors)
    if (t.name == name) return t;
  throw errorf("ERR_INTERNAL", "[case %s] has no tensor %s", op_case.info.name.c_str(), name.c_str());
}

}  // namespace

std::vector<CaseInfo> case_list() {
  std::vector<CaseInfo> infos;
  for (const OpCase& c : op_cases()) infos.push_back(c.info);
  return infos;
}

std::vector<CaseReport> check_case(const std::string& name, const std::vector<const OpTable*>& backends, DType dtype,
                                   int threads) {
  const OpCase& c = find_case(name);
  const bool rounded = dtype == kBF16;
  // The reference's forward, unrounded, judges forward. Backward starts, in the reference and in every backend, from
  // the same forward outputs as the dtype stores them, so that each half is judged by itself.
  CaseData forward(c, exact(c), rounded), stored(c, dtype, rounded), both(c, exact(c), rounded);
  CaseWorkspace plain(c, *reference_backend(), exact(c), 1);
  call(c.forward, c, *reference_backend(), plain, forward);
  std::vector<const CaseTensor*> outputs;  // written by forward
  for (const CaseTensor& t : c.tensors) {
    if (t.role == Role::kInput) continue;
    const int64_t count = t.towers * t.rows * t.cols;
    bool written = t.role == Role::kAccumulate;
    for (int64_t i = 0; i < count && !written; i++) written = !std::isnan(forward.get(t, i));
    if (!written) continue;
    outputs.push_back(&t);
    stored.copy(t, forward);
    both.copy(t, stored);
  }
  if (c.backward) call(c.backward, c, *reference_backend(), plain, both);

  std::vector<CaseReport> reports;
  for (const OpTable* backend : backends) {
    CaseData actual(c, dtype, rounded);
    CaseWorkspace workspace(c, *backend, dtype, threads);
    call(c.forward, c, *backend, workspace, actual);
    CaseReport report = compare(outputs, actual, forward);
    if (c.backward && report.worst <= 1) {
      for (const CaseTensor* t : outputs) actual.copy(*t, stored);
      call(c.backward, c, *backend, workspace, actual);
      std::vector<const CaseTensor*> all;
      for (const CaseTensor& t : c.tensors)
        if (t.role != Role::kInput) all.push_back(&t);
      report = compare(all, actual, both);
    }
    reports.push_back(report);
  }
  return reports;
}

CaseReport check_case(const std::string& name, const OpTable* backend, DType dtype, int threads) {
  return check_case(name, std::vector<const OpTable*>{backend}, dtype, threads)[0];
}

CaseReport check_gradient(const std::string& name) {
  const OpCase& c = find_case(name);
  CaseReport report;
  if (c.gradients.empty() || !c.small()) return report;
  const OpTable& reference = *reference_backend();
  CaseWorkspace workspace(c, reference, kF64, 1);
  CaseData analytic(c, kF64, false);
  call(c.forward, c, reference, workspace, analytic);
  call(c.backward, c, reference, workspace, analytic);
  CaseData start(c, kF64, false), moved(c, kF64, false);
  for (const auto& [input, gradient] : c.gradients) {
    const CaseTensor &x = tensor(c, input), &d_x = tensor(c, gradient);
    const int64_t count = x.towers * x.rows * x.cols;
    double square = 0;
    for (int64_t i = 0; i < count; i++) {
      const double given = d_x.role == Role::kAccumulate ? start.get(d_x, i) : 0;
      square += std::pow(analytic.get(d_x, i) - given, 2);
    }
    const double scale = count ? std::sqrt(square / static_cast<double>(count)) + 1e-8 : 1;
    // A sample of elements that differs from input to input: every row of weights and activations gets its turn.
    const int64_t samples = count < 48 ? count : 48;
    for (int64_t s = 0; s < samples; s++) {
      uint32_t word[4];
      philox(rng_key(2, c.info.name + "/" + input), static_cast<uint64_t>(s), word);
      const int64_t i =
          count < 48
              ? s
              : static_cast<int64_t>((static_cast<uint64_t>(word[1]) << 32 | word[0]) % static_cast<uint64_t>(count));
      double value[2];
      const double h = 1e-5;
      for (int side = 0; side < 2; side++) {
        moved.reset();
        moved.set(x, i, moved.get(x, i) + (side ? h : -h));
        call(c.forward, c, reference, workspace, moved);
        value[side] = objective(c, moved);
      }
      const double numeric = (value[1] - value[0]) / (2 * h);
      const double given = d_x.role == Role::kAccumulate ? start.get(d_x, i) : 0;
      const double got = analytic.get(d_x, i) - given;
      const double error = std::fabs(numeric - got) / (2e-6 * std::fmax(scale, 1e-2));
      if (error <= report.worst) continue;
      report.worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
      if (report.worst <= 1) continue;
      char text[256];
      std::snprintf(text, sizeof text, "gradient of %s, element %lld: backward %.9g, finite differences %.9g",
                    input.c_str(), static_cast<long long>(i), got, numeric);
      report.message = text;
    }
  }
  return report;
}

CaseReport check_threads(const std::string& name, const OpTable* backend, DType dtype, int threads) {
  const OpCase& c = find_case(name);
  CaseData one(c, dtype, dtype == kBF16), many(c, dtype, dtype == kBF16);
  for (CaseData* data : {&one, &many}) {
    CaseWorkspace workspace(c, *backend, dtype, data == &one ? 1 : threads);
    call(c.forward, c, *backend, workspace, *data);
    if (c.backward) call(c.backward, c, *backend, workspace, *data);
  }
  for (const CaseTensor& t : c.tensors)
    if (!one.same_bits(t, many))
      return {2, t.name + ": other bits with " + std::to_string(threads) + " threads than with 1"};
  return {};
}

}  // namespace mot
