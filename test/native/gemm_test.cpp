// The CPU backend's GEMM where blocks end: every instruction set against the reference backend over sizes around its
// tiles, panels and blocks, and the promise that bits depend on nothing but the operands.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/thread_team.h"
#include "cpu/backend.h"
#include "ops/op_table.h"

namespace mot {
namespace {

std::vector<const OpTable*> variants() {
  const char* names[8];
  int count = cpu_variants(names, 8);
  std::vector<const OpTable*> tables;
  for (int i = 0; i < count; i++) tables.push_back(cpu_backend_variant(names[i]));
  return tables;
}

// A matrix of f32 or bf16 with rows padded by values that must neither be read into results nor written.
class Values {
 public:
  Values(int64_t rows, int64_t cols, DType dtype, std::mt19937* random) : dtype_(dtype), rows_(rows), cols_(cols) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < rows * stride(); i++) {
      bool padding = i % stride() >= cols;
      float x = random && !padding ? normal(*random) : kUntouched;
      f32_.push_back(x);
      bf16_.push_back(bf16_from_f32(x));
    }
  }

  Matrix matrix() {
    return {dtype_ == kBF16 ? static_cast<void*>(bf16_.data()) : f32_.data(), dtype_, rows_, cols_, stride()};
  }
  float at(int64_t row, int64_t col) const {
    size_t i = static_cast<size_t>(row * stride() + col);
    return dtype_ == kBF16 ? f32_from_bf16(bf16_[i]) : f32_[i];
  }
  bool padding_untouched() const {
    for (int64_t row = 0; row < rows_; row++)
      for (int64_t col = cols_; col < stride(); col++)
        if (at(row, col) != kUntouched) return false;
    return true;
  }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }

 private:
  static constexpr float kUntouched = 12288;  // exact in bf16
  int64_t stride() const { return cols_ + 5; }
  DType dtype_;
  int64_t rows_, cols_;
  std::vector<float> f32_;
  std::vector<uint16_t> bf16_;
};

class Weights {
 public:
  Weights(int64_t towers, int64_t rows, int64_t cols, std::mt19937& random) : rows_(rows), cols_(cols) {
    std::normal_distribution<float> normal;
    for (int64_t t = 0; t < towers; t++) {
      data_.emplace_back();
      for (int64_t i = 0; i < rows * cols; i++) data_.back().push_back(normal(random));
    }
  }
  TowerWeights towers() {
    pointers_.clear();
    for (auto& d : data_) pointers_.push_back(d.data());
    return {pointers_.data(), static_cast<int64_t>(data_.size()), kF32, rows_, cols_};
  }
  const std::vector<std::vector<float>>& data() const { return data_; }

 private:
  int64_t rows_, cols_;
  std::vector<std::vector<float>> data_;
  std::vector<void*> pointers_;
};

// A context whose workspace holds NaN.
class Scratch {
 public:
  Scratch(const OpTable* table, const OpLimits& limits, int64_t bytes = 0) {
    bytes_ = bytes ? bytes : table->workspace_bytes(&limits);
    memory_.assign(static_cast<size_t>(bytes_ / 4 + 32), NAN);
    threads_ = limits.threads;
  }
  Context context() {
    auto start = (reinterpret_cast<uintptr_t>(memory_.data()) + 63) / 64 * 64;
    return {threads_, reinterpret_cast<void*>(start), bytes_};
  }

 private:
  std::vector<float> memory_;
  int64_t bytes_;
  int32_t threads_;
};

struct Shape {
  int64_t in, out;
  std::vector<Segment> segments;
  int64_t rows;
};

OpLimits limits_of(const Shape& shape, int threads) {
  OpLimits limits = {};
  limits.rows = shape.rows;
  limits.in_features = shape.in;
  limits.out_features = shape.out;
  limits.threads = threads;
  return limits;
}

constexpr int64_t kTowers = 3;

// All three directions of one shape with one choice of dtypes; outputs of equal inputs.
struct Products {
  Products(const Shape& shape, DType stored, DType output, bool add, uint64_t seed) : shape(shape), add(add) {
    std::mt19937 random(static_cast<uint32_t>(seed));
    x = std::make_unique<Values>(shape.rows, shape.in, stored, &random);
    d_y = std::make_unique<Values>(shape.rows, shape.out, stored, &random);
    residual = std::make_unique<Values>(shape.rows, shape.out, kF32, &random);
    weight = std::make_unique<Weights>(kTowers, shape.out, shape.in, random);
    d_w = std::make_unique<Weights>(kTowers, shape.out, shape.in, random);
    y = std::make_unique<Values>(shape.rows, shape.out, output, nullptr);
    d_x = std::make_unique<Values>(shape.rows, shape.in, add ? kF32 : output, add ? &random : nullptr);
  }

  void run(const OpTable* table, Context context, DType compute) {
    Segments segments = {shape.segments.data(), static_cast<int64_t>(shape.segments.size())};
    Matrix none = {};
    GroupedGemmForward forward = {x->matrix(), weight->towers(), add ? residual->matrix() : none,
                                  y->matrix(), segments,         compute};
    ASSERT_EQ(table->grouped_gemm_forward(&context, &forward), 0) << table->last_error();
    GroupedGemmDx backward = {d_y->matrix(), weight->towers(), d_x->matrix(), add, segments, compute};
    ASSERT_EQ(table->grouped_gemm_d_x(&context, &backward), 0) << table->last_error();
    GroupedGemmDw gradient = {d_y->matrix(), x->matrix(), d_w->towers(), segments, compute};
    ASSERT_EQ(table->grouped_gemm_d_w(&context, &gradient), 0) << table->last_error();
  }

  Shape shape;
  bool add;
  std::unique_ptr<Values> x, d_y, residual, y, d_x;
  std::unique_ptr<Weights> weight, d_w;
};

// Inputs are standard normal, so a sum of `depth` products has a standard deviation of sqrt(depth).
void expect_close(float got, float want, DType stored, int64_t depth, const std::string& where) {
  double rounding = stored == kBF16 ? 1.0 / 256 : 3e-7;
  double tolerance = rounding * std::fabs(want) + 3e-6 * std::sqrt(static_cast<double>(depth));
  if (!(std::fabs(got - want) <= tolerance)) ADD_FAILURE() << where << ": got " << got << ", expected " << want;
}

void expect_close(const Values& got, const Values& want, DType stored, int64_t depth, const std::string& where) {
  for (int64_t row = 0; row < got.rows() && !testing::Test::HasFailure(); row++)
    for (int64_t col = 0; col < got.cols(); col++)
      expect_close(got.at(row, col), want.at(row, col), stored, depth,
                   where + " row " + std::to_string(row) + " column " + std::to_string(col));
  EXPECT_TRUE(got.padding_untouched()) << where;
}

void compare_with_reference(const Shape& shape) {
  for (DType stored : {kF32, kBF16})
    for (DType output : {kF32, kBF16})
      for (DType compute : {kF32, kBF16}) {
        bool add = stored == output;
        Products want(shape, stored, kF32, add, 7);
        want.run(reference_backend(), Scratch(reference_backend(), limits_of(shape, 1)).context(), compute);
        for (const OpTable* table : variants()) {
          Products got(shape, stored, output, add, 7);
          got.run(table, Scratch(table, limits_of(shape, 3)).context(), compute);
          std::string name = std::string(table->variant) + " " + dtype_name(stored) + " to " + dtype_name(output) +
                             " in " + dtype_name(compute) + ", in " + std::to_string(shape.in) + ", out " +
                             std::to_string(shape.out) + ", rows " + std::to_string(shape.rows);
          expect_close(*got.y, *want.y, output, shape.in, name + ": y");
          expect_close(*got.d_x, *want.d_x, add ? kF32 : output, shape.out, name + ": d_x");
          for (size_t t = 0; t < kTowers; t++)
            for (size_t i = 0; i < got.d_w->data()[t].size() && !testing::Test::HasFailure(); i++)
              expect_close(got.d_w->data()[t][i], want.d_w->data()[t][i], kF32, shape.rows,
                           name + ": d_w of tower " + std::to_string(t) + " at " + std::to_string(i));
          if (testing::Test::HasFailure()) return;
        }
      }
}

// One group of `rows` rows between two others, with padding rows around and an empty segment.
Shape around(int64_t rows, int64_t in, int64_t out) {
  int32_t end = static_cast<int32_t>(3 + rows);
  return {in, out, {{1, 3, 0}, {3, end, 2}, {end, end, 1}, {end + 2, end + 5, 0}}, end + 6};
}

TEST(Gemm, GroupSizesAroundTiles) {
  for (int64_t rows : {0, 1, 2, 3, 4, 5, 6, 7, 12, 13}) compare_with_reference(around(rows, 40, 72));
}

TEST(Gemm, GroupSizesAroundBlocksOfRows) {
  for (int64_t rows : {95, 96, 97, 143, 144, 145, 300}) compare_with_reference(around(rows, 40, 20));
}

TEST(Gemm, WidthsAroundVectorsAndPanels) {
  for (int64_t width : {1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 129, 211}) {
    compare_with_reference(around(9, width, 24));
    compare_with_reference(around(9, 24, width));
  }
}

TEST(Gemm, SeveralBlocksOfTheReduction) {
  for (int64_t depth : {511, 512, 513, 1023, 1024, 1025, 1600}) {
    compare_with_reference(around(7, depth, 5));
    compare_with_reference(around(7, 5, depth));
    compare_with_reference(around(depth, 5, 7));
  }
}

TEST(Gemm, NeighbouringAndRepeatedTowers) {
  compare_with_reference({33, 35, {{0, 10, 1}, {10, 11, 1}, {11, 11, 0}, {11, 30, 1}, {30, 31, 0}, {40, 47, 1}}, 50});
}

TEST(Gemm, NoSegments) { compare_with_reference({8, 8, {}, 20}); }

TEST(Gemm, VeryManyRows) { compare_with_reference({3, 2, {{0, 9000, 0}}, 9000}); }

// More rows of the gradient than gemm_gradient works on at a time.
TEST(Gemm, SeveralStripsOfTheGradient) { compare_with_reference({9, 4110, {{0, 20, 0}, {20, 31, 1}}, 33}); }

void expect_same_bits(Products& a, Products& b, const std::string& where) {
  for (int64_t row = 0; row < a.y->rows(); row++) {
    for (int64_t col = 0; col < a.y->cols(); col++) ASSERT_EQ(a.y->at(row, col), b.y->at(row, col)) << where;
    for (int64_t col = 0; col < a.d_x->cols(); col++) ASSERT_EQ(a.d_x->at(row, col), b.d_x->at(row, col)) << where;
  }
  ASSERT_EQ(a.d_w->data(), b.d_w->data()) << where;
}

// `bytes` of workspace with one thread, if any are given.
void expect_same_bits_for_any_threads(const Shape& shape, DType compute, int64_t bytes) {
  for (const OpTable* table : variants()) {
    Products one(shape, kF32, kF32, false, 3);
    one.run(table, Scratch(table, limits_of(shape, 1)).context(), compute);
    for (int threads : {2, 5}) {
      Products many(shape, kF32, kF32, false, 3);
      many.run(table, Scratch(table, limits_of(shape, threads)).context(), compute);
      expect_same_bits(one, many, std::string(table->variant) + ", threads " + std::to_string(threads));
    }
    if (!bytes) continue;
    Products tight(shape, kF32, kF32, false, 3);
    tight.run(table, Scratch(table, limits_of(shape, 1), bytes).context(), compute);
    expect_same_bits(one, tight, std::string(table->variant) + ", small workspace");
  }
}

// A workspace of hardly more than the scratch of the threads makes many waves of few panels.
TEST(Gemm, SameBitsForAnyThreadsAndWorkspace) {
  Shape shape = {600, 330, {{0, 150, 0}, {150, 180, 1}, {180, 290, 2}, {290, 390, 0}}, 390};
  for (DType compute : {kF32, kBF16}) expect_same_bits_for_any_threads(shape, compute, 1 << 20);
}

// With one thread a wave of the gradient is one block of the reduction, with two it is two, with five all of it.
TEST(Gemm, SameBitsForAnyDepthOfWaves) {
  expect_same_bits_for_any_threads({520, 510, {{0, 1100, 0}, {1100, 1800, 1}}, 1800}, kF32, 0);
}

TEST(Gemm, RowsDoNotDependOnTheirGroup) {
  Shape large = {515, 70, {{0, 333, 0}}, 333};
  for (const OpTable* table : variants())
    for (DType compute : {kF32, kBF16}) {
      Products whole(large, kF32, kF32, false, 5);
      whole.run(table, Scratch(table, limits_of(large, 2)).context(), compute);
      // The same rows and weights, but in groups of 1 to 8 rows and two of many, each apart from the one before.
      Products parts(large, kF32, kF32, false, 5);
      parts.shape.segments = {{0, 99, 0}};
      for (int32_t rows = 1, begin = 100; rows <= 8; begin += rows + 1, rows++)
        parts.shape.segments.push_back({begin, begin + rows, 0});
      parts.shape.segments.push_back({150, 333, 0});
      parts.run(table, Scratch(table, limits_of(large, 2)).context(), compute);
      for (const Segment& s : parts.shape.segments)
        for (int64_t row = s.begin; row < s.end; row++) {
          for (int64_t col = 0; col < large.out; col++)
            ASSERT_EQ(whole.y->at(row, col), parts.y->at(row, col)) << table->variant << ", row " << row;
          for (int64_t col = 0; col < large.in; col++) ASSERT_EQ(whole.d_x->at(row, col), parts.d_x->at(row, col));
        }
    }
}

TEST(Gemm, UnsupportedDtypeSaysSo) {
  Context context = {1, nullptr, 0};
  GroupedGemmForward forward = {};
  forward.x.dtype = kF64;
  for (const OpTable* table : variants()) {
    EXPECT_NE(table->grouped_gemm_forward(&context, &forward), 0);
    EXPECT_NE(std::string(table->last_error()).find("F64"), std::string::npos) << table->last_error();
  }
}

// Seconds of processor time that all processes together have used, from /proc/stat; 0 where there is none.
double machine_cpu_seconds() {
  std::FILE* file = std::fopen("/proc/stat", "r");
  if (!file) return 0;
  double user = 0, nice = 0, system = 0;
  int fields = std::fscanf(file, "cpu %lf %lf %lf", &user, &nice, &system);
  std::fclose(file);
  return fields == 3 ? (user + nice + system) / 100 : 0;
}

double seconds_of(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

TEST(Gemm, TwoThreadsAreUsed) {
  if (available_threads() < 2) GTEST_SKIP() << "needs two processors";
  const OpTable* table = variants().back();
  Shape shape = {512, 512, {{0, 600, 0}, {600, 900, 1}, {900, 1024, 2}}, 1024};
  Products products(shape, kF32, kF32, false, 1);
  Scratch scratch(table, limits_of(shape, 2));
  double best = 0;
  for (int attempt = 0; attempt < 10 && best < 1.7; attempt++) {
    double wall = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID), all = machine_cpu_seconds();
    while (seconds_of(CLOCK_MONOTONIC) - wall < 0.3) products.run(table, scratch.context(), kF32);
    wall = seconds_of(CLOCK_MONOTONIC) - wall;
    cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    all = machine_cpu_seconds() - all;
    // On a machine that others keep busy the ratio says nothing.
    if (all - cpu < 0.15 * wall || cpu / wall >= 1.7) best = std::max(best, cpu / wall);
  }
  if (best == 0) GTEST_SKIP() << "other processes keep the processors busy";
  EXPECT_GE(best, 1.7) << "processor time / wall time";
}

TEST(CpuBackend, VariantsAndOverride) {
  std::vector<const OpTable*> tables = variants();
  ASSERT_FALSE(tables.empty());
  EXPECT_STREQ(tables[0]->variant, "generic");
  for (const OpTable* table : tables) EXPECT_STREQ(table->name, "cpu");
  EXPECT_EQ(cpu_backend_variant("sse9"), nullptr);

  const char* why = nullptr;
  ASSERT_EQ(setenv("MOT_ISA", "generic", 1), 0);
  EXPECT_EQ(cpu_backend(&why), tables[0]);
  ASSERT_EQ(setenv("MOT_ISA", "sse9", 1), 0);
  EXPECT_EQ(cpu_backend(&why), nullptr);
  ASSERT_NE(why, nullptr);
  EXPECT_NE(std::string(why).find("sse9"), std::string::npos) << why;
  EXPECT_NE(std::string(why).find("generic"), std::string::npos) << why;
  ASSERT_EQ(unsetenv("MOT_ISA"), 0);
  EXPECT_EQ(cpu_backend(&why), tables.back());
}

}  // namespace
}  // namespace mot
