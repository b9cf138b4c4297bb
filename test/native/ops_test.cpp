// Every case of every op: each backend and dtype against the reference in f64, the reference's gradients against finite
// differences, and the same bits for any number of threads.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cases/case.h"
#include "core/error.h"
#include "cpu/backend.h"

namespace mot {
namespace {

// Benchmark sizes take too long for the reference; the sizes before them hold several tiles, blocks and chunks.
std::vector<std::string> test_cases() {
  std::vector<std::string> names;
  for (const CaseInfo& info : case_list())
    if (info.name.find("/bench") == std::string::npos) names.push_back(info.name);
  return names;
}

std::vector<const OpTable*> backends() {
  std::vector<const OpTable*> tables = {reference_backend()};
  const char* names[8];
  const int count = cpu_variants(names, 8);
  for (int i = 0; i < count; i++) tables.push_back(cpu_backend_variant(names[i]));
  return tables;
}

class Ops : public testing::TestWithParam<std::string> {};

TEST_P(Ops, AgreeWithTheReference) {
  for (const OpTable* backend : backends())
    for (DType dtype : {kF32, kBF16}) {
      const CaseReport report = check_case(GetParam(), backend, dtype, 2);
      EXPECT_LE(report.worst, 1) << backend->name << " " << backend->variant << " " << dtype_name(dtype) << ": "
                                 << report.message;
    }
}

TEST_P(Ops, GradientsAgreeWithFiniteDifferences) {
  const CaseReport report = check_gradient(GetParam());
  EXPECT_LE(report.worst, 1) << report.message;
}

TEST_P(Ops, BitsDoNotDependOnThreads) {
  for (const OpTable* backend : backends())
    for (DType dtype : {kF32, kBF16})
      for (int threads : {2, 3}) {
        if (backend == reference_backend()) continue;  // single-threaded
        const CaseReport report = check_threads(GetParam(), backend, dtype, threads);
        EXPECT_LE(report.worst, 1) << backend->variant << " " << dtype_name(dtype) << ": " << report.message;
      }
}

INSTANTIATE_TEST_SUITE_P(Cases, Ops, testing::ValuesIn(test_cases()), [](const auto& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

TEST(OpCases, CoverEveryOp) {
  std::string seen;
  for (const CaseInfo& info : case_list()) seen += info.op + " ";
  for (const char* op :
       {"embedding", "rms_norm", "grouped_gemm", "qk_norm_rope", "attention", "swiglu", "router", "routing", "dispatch",
        "linear_cross_entropy", "silu", "squared_error", "grad_norm", "adamw", "ema"})
    EXPECT_NE(seen.find(op), std::string::npos) << op;
  EXPECT_THROW(check_case("no_such_case", reference_backend(), kF32, 1), Error);
}

TEST(GradNorm, NotFiniteValuesShow) {
  for (const OpTable* backend : backends())
    for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      std::vector<float> grad(5000, 1.0f);
      grad[4321] = bad;
      double sum = 0;
      OpLimits limits = {};
      limits.threads = 2;
      std::vector<double> workspace(static_cast<size_t>(backend->workspace_bytes(&limits)) / 8 + 16);
      Context context = {2, workspace.data(), static_cast<int64_t>(workspace.size() * 8)};
      GradNorm params = {grad.data(), 5000, &sum};
      ASSERT_EQ(backend->grad_norm(&context, &params), 0);
      EXPECT_FALSE(std::isfinite(sum)) << backend->variant;
    }
}

}  // namespace
}  // namespace mot
