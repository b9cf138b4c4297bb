// Attention of the CPU backend against the reference, on shapes made for its tiles: lengths around a tile's, intervals
// that leave tiles partly or not visible, garbage where nobody looks, and every head width class.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/rng.h"
#include "cpu/backend.h"
#include "ops/op_table.h"

namespace mot {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Shape {
  std::string name;
  std::vector<int32_t> kv_start, kv_end;
  int64_t slots;
  int64_t heads = 2, kv_heads = 1, head_dim = 16;
  int64_t padding = 0;  // last queries: empty interval, out_row -1, garbage in q
};

// Documents of the given lengths, packed one after another; each causal but for a bidirectional span in its middle.
Shape packed(const std::string& name, const std::vector<int>& lengths, bool span) {
  Shape shape{name, {}, {}, 0};
  for (int length : lengths) {
    const int32_t begin = static_cast<int32_t>(shape.slots);
    for (int t = 0; t < length; t++) {
      const bool inside = span && t >= length / 3 && t < 2 * length / 3;
      shape.kv_start.push_back(begin);
      shape.kv_end.push_back(begin + (inside ? 2 * length / 3 : t + 1));
    }
    shape.slots += length;
  }
  return shape;
}

Shape window(const std::string& name, int length, int width) {
  Shape shape = packed(name, {length}, false);
  for (int t = 0; t < length; t++) shape.kv_start[t] = std::max(0, t - width + 1);
  return shape;
}

// Few queries, each at the end of its own stretch of a cache; the rest of the cache was never written.
Shape decoding(const std::string& name, const std::vector<int>& lengths, int capacity) {
  Shape shape{name, {}, {}, static_cast<int64_t>(lengths.size()) * capacity};
  for (size_t i = 0; i < lengths.size(); i++) {
    shape.kv_start.push_back(static_cast<int32_t>(i) * capacity);
    shape.kv_end.push_back(static_cast<int32_t>(i) * capacity + lengths[i]);
  }
  return shape;
}

Shape with(Shape shape, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t padding = 0) {
  shape.heads = heads, shape.kv_heads = kv_heads, shape.head_dim = head_dim, shape.padding = padding;
  for (int64_t i = 0; i < padding; i++) {
    shape.kv_start.push_back(shape.kv_end.back());
    shape.kv_end.push_back(shape.kv_end.back());
  }
  return shape;
}

std::vector<Shape> shapes() {
  return {
      with(packed("one_token", {1}, false), 1, 1, 8),
      with(packed("tile_minus_one", {47, 95, 63}, false), 2, 1, 24),
      with(packed("tiles_exactly", {96, 48, 64}, false), 2, 2, 64),
      with(packed("tile_plus_one", {97, 49, 65, 1}, true), 4, 2, 40, 3),
      with(packed("several_tiles", {301, 7, 120}, true), 6, 2, 64, 20),
      with(packed("many_short_documents", std::vector<int>(23, 5), true), 2, 1, 16),
      with(packed("widest_head", {130}, true), 1, 1, 256),
      with(packed("odd_head", {77, 20}, false), 3, 3, 8),
      with(window("sliding_window", 260, 17), 4, 1, 32),
      with(window("window_of_one", 100, 1), 2, 2, 16),
      with(decoding("one_query", {333}, 400), 8, 2, 64),
      with(decoding("six_sequences", {1, 70, 33, 200, 16, 17}, 256), 4, 2, 40),
      with(decoding("unwritten_slots_between", {90, 90}, 100), 2, 1, 16),
  };
}

// All arguments of a call, rounded to the dtype under test. Strides are wider than the rows.
struct Data {
  Data(const Shape& shape, DType dtype) : shape(shape), dtype(dtype) {
    const int64_t T = static_cast<int64_t>(shape.kv_start.size()), S = shape.slots;
    const int64_t H = shape.heads, K = shape.kv_heads, E = shape.head_dim;
    rows = T - shape.padding;
    for (int64_t t = 0; t < T; t++) out_row.push_back(t < rows ? static_cast<int32_t>((t * 7 + 3) % rows) : -1);
    if (rows % 7 == 0)
      for (int64_t t = 0; t < rows; t++) out_row[t] = static_cast<int32_t>(rows - 1 - t);
    q = make(T, H * E), k = make(S, K * E), v = make(S, K * E), out = make(rows, H * E), d_out = make(rows, H * E);
    d_q = make(T, H * E), d_k = make(S, K * E), d_v = make(S, K * E);
    lse.assign(H * T, kNaN);
    fill(q, "q"), fill(k, "k"), fill(v, "v"), fill(d_out, "d_out");
    for (Matrix* m : {&out, &d_q, &d_k, &d_v}) poison(*m, 0, m->rows);
    poison(q, rows, T);
    live_q.assign(T, false), live_out.assign(rows, true), seen.assign(S, false);
    for (int64_t t = 0; t < rows; t++) live_q[t] = true;
    for (int64_t t = 0; t < T; t++)
      for (int64_t j = shape.kv_start[t]; j < shape.kv_end[t]; j++) seen[j] = true;
    for (int64_t j = 0; j < S; j++)
      if (!seen[j]) poison(k, j, j + 1), poison(v, j, j + 1);
  }
  Data(const Data&) = delete;

  Matrix make(int64_t rows, int64_t cols) {
    const int64_t stride = cols + 8;
    memory.emplace_back(rows * stride * dtype_size(dtype));
    return {memory.back().data(), dtype, rows, cols, stride};
  }
  static void set(const Matrix& m, int64_t row, int64_t col, float x) {
    const int64_t i = row * m.stride + col;
    if (m.dtype == kBF16) {
      static_cast<uint16_t*>(m.data)[i] = bf16_from_f32(x);
    } else {
      static_cast<float*>(m.data)[i] = x;
    }
  }
  static float get(const Matrix& m, int64_t row, int64_t col) {
    const int64_t i = row * m.stride + col;
    return m.dtype == kBF16 ? f32_from_bf16(static_cast<uint16_t*>(m.data)[i]) : static_cast<float*>(m.data)[i];
  }
  static void fill(const Matrix& m, const char* name) {
    const RngKey key = rng_key(11, name);
    for (int64_t r = 0; r < m.rows; r++)
      for (int64_t c = 0; c < m.cols; c++) set(m, r, c, normal(key, r * m.cols + c));
  }
  static void poison(const Matrix& m, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++)
      for (int64_t c = 0; c < m.cols; c++) set(m, r, c, kNaN);
  }

  void run(const OpTable& table, int threads) {
    const int64_t T = q.rows, S = k.rows, H = shape.heads, K = shape.kv_heads, E = shape.head_dim;
    OpLimits limits{T, S, 8, 8, H * E, H, K, E, 8, threads, dtype == kBF16 ? kBF16 : kF32};
    std::vector<uint8_t> workspace(table.workspace_bytes(&limits) + 64);
    const uintptr_t address = (reinterpret_cast<uintptr_t>(workspace.data()) + 63) / 64 * 64;
    Context context{threads, reinterpret_cast<void*>(address), static_cast<int64_t>(workspace.size()) - 64};
    const double scale = 1 / std::sqrt(static_cast<double>(E));
    AttentionForward forward{q,     k,   v,         shape.kv_start.data(), shape.kv_end.data(), out_row.data(), H, K, E,
                             scale, out, lse.data()};
    ASSERT_EQ(table.attention_forward(&context, &forward), 0) << table.last_error();
    AttentionBackward backward{q,
                               k,
                               v,
                               shape.kv_start.data(),
                               shape.kv_end.data(),
                               out_row.data(),
                               H,
                               K,
                               E,
                               scale,
                               out,
                               lse.data(),
                               d_out,
                               d_q,
                               d_k,
                               d_v};
    ASSERT_EQ(table.attention_backward(&context, &backward), 0) << table.last_error();
  }

  const Shape& shape;
  DType dtype;
  int64_t rows;
  std::vector<std::vector<uint8_t>> memory;
  std::vector<int32_t> out_row;
  Matrix q, k, v, out, d_out, d_q, d_k, d_v;
  std::vector<float> lse;
  std::vector<bool> live_q, live_out, seen;  // rows that are not zero in d_q, in out, and in d_k and d_v
};

// Error of each row relative to its own norm, so that a wrong row cannot hide among large ones; but at least to
// `terms`, the size of what may cancel (d_s of a query with one key is 0). Rows not in `live` are exactly zero.
void expect_close(const char* what, const Matrix& got, const Matrix& want, double tolerance, double terms,
                  const std::vector<bool>& live) {
  for (int64_t r = 0; r < want.rows; r++) {
    double error = 0, norm = 0;
    for (int64_t c = 0; c < want.cols; c++) {
      error += std::pow(Data::get(got, r, c) - Data::get(want, r, c), 2);
      norm += std::pow(Data::get(want, r, c), 2);
    }
    const double bound = live[r] ? tolerance * std::max(std::sqrt(norm), terms) : 0;
    ASSERT_LE(std::sqrt(error), bound) << what << " row " << r;
  }
}

void compare(const OpTable& table, const Shape& shape, DType dtype, int threads) {
  SCOPED_TRACE(std::string(table.variant) + " " + dtype_name(dtype) + " " + shape.name);
  Data got(shape, dtype), want(shape, dtype);
  got.run(table, threads);
  want.run(*reference_backend(), 1);
  if (testing::Test::HasFatalFailure()) return;
  const double tolerance = dtype == kBF16 ? 1.5e-2 : 3e-6;
  const double cancelling = 0.5 * std::sqrt(static_cast<double>(shape.head_dim));
  expect_close("out", got.out, want.out, tolerance, 1, want.live_out);
  expect_close("d_q", got.d_q, want.d_q, tolerance, cancelling, want.live_q);
  expect_close("d_k", got.d_k, want.d_k, tolerance, cancelling, want.seen);
  expect_close("d_v", got.d_v, want.d_v, tolerance, 1, want.seen);
  for (size_t i = 0; i < want.lse.size(); i++) ASSERT_NEAR(got.lse[i], want.lse[i], 4e-6) << "lse " << i;
}

class AttentionCpu : public testing::TestWithParam<const char*> {};

TEST_P(AttentionCpu, MatchesTheReference) {
  const OpTable* table = cpu_backend_variant(GetParam());
  ASSERT_NE(table, nullptr);
  for (const Shape& shape : shapes())
    for (DType dtype : {kF32, kBF16}) compare(*table, shape, dtype, 2);
}

TEST_P(AttentionCpu, BitsDoNotDependOnThreads) {
  const OpTable* table = cpu_backend_variant(GetParam());
  std::vector<Shape> list = shapes();
  // Key tiles of one head at once, which add to the same d_q.
  list.push_back(with(packed("one_head", {900}, false), 1, 1, 16));
  for (const Shape& shape : list)
    for (DType dtype : {kF32, kBF16}) {
      SCOPED_TRACE(shape.name + " " + dtype_name(dtype));
      Data one(shape, dtype), three(shape, dtype);
      one.run(*table, 1);
      three.run(*table, 3);
      EXPECT_EQ(one.memory, three.memory);
      EXPECT_EQ(0, std::memcmp(one.lse.data(), three.lse.data(), one.lse.size() * sizeof(float)));
    }
}

// A document alone, and the same between others, of a length that is no multiple of anything.
TEST_P(AttentionCpu, BitsDoNotDependOnWhereADocumentLies) {
  const int64_t length = 211, before = 37 + 102;
  const Shape alone_shape = with(packed("alone", {211}, true), 4, 2, 40);
  const Shape among_shape = with(packed("among", {37, 102, 211, 50}, true), 4, 2, 40, 5);
  for (DType dtype : {kF32, kBF16}) {
    SCOPED_TRACE(dtype_name(dtype));
    Data alone(alone_shape, dtype), among(among_shape, dtype);
    auto rows_of = [&](int64_t t, auto f) {
      for (auto m : {&Data::q, &Data::k, &Data::v, &Data::d_q, &Data::d_k, &Data::d_v})
        f(alone.*m, t, among.*m, before + t);
      for (auto m : {&Data::out, &Data::d_out}) f(alone.*m, alone.out_row[t], among.*m, among.out_row[before + t]);
    };
    for (int64_t t = 0; t < length; t++)
      rows_of(t, [](const Matrix& from, int64_t i, const Matrix& to, int64_t j) {
        for (int64_t c = 0; c < from.cols; c++) Data::set(to, j, c, Data::get(from, i, c));
      });
    alone.run(*cpu_backend_variant(GetParam()), 1);
    among.run(*cpu_backend_variant(GetParam()), 2);
    for (int64_t t = 0; t < length; t++)
      rows_of(t, [&](const Matrix& a, int64_t i, const Matrix& b, int64_t j) {
        for (int64_t c = 0; c < a.cols; c++) ASSERT_EQ(Data::get(a, i, c), Data::get(b, j, c)) << t << " " << c;
      });
    for (int64_t head = 0; head < alone_shape.heads; head++)
      for (int64_t t = 0; t < length; t++)
        ASSERT_EQ(alone.lse[head * alone.q.rows + t], among.lse[head * among.q.rows + before + t]);
  }
}

// Scores of a few hundred: the maximum must be subtracted, and a later tile must lower the weight of earlier ones.
TEST_P(AttentionCpu, LargeScoresDoNotOverflow) {
  Shape shape = with(packed("large_scores", {200}, false), 2, 1, 32);
  Data got(shape, kF32), want(shape, kF32);
  for (Data* data : {&got, &want})
    for (int64_t r = 0; r < data->k.rows; r++)
      for (int64_t c = 0; c < data->k.cols; c++) Data::set(data->k, r, c, Data::get(data->k, r, c) * (1 + r));
  got.run(*cpu_backend_variant(GetParam()), 1);
  want.run(*reference_backend(), 1);
  // Scores are as wrong as f32 products of their size must be.
  expect_close("out", got.out, want.out, 1e-3, 1, want.live_out);
  expect_close("d_v", got.d_v, want.d_v, 1e-3, 1, want.seen);
}

TEST_P(AttentionCpu, NaNOfAVisibleKeyReachesItsQueriesOnly) {
  Shape shape = with(packed("nan", {150, 60}, false), 1, 1, 16);
  Data data(shape, kF32);
  Data::set(data.k, 100, 3, kNaN);
  data.run(*cpu_backend_variant(GetParam()), 2);
  for (int64_t t = 0; t < data.q.rows; t++) {
    const bool sees = shape.kv_start[t] <= 100 && 100 < shape.kv_end[t];
    EXPECT_EQ(std::isnan(Data::get(data.out, data.out_row[t], 0)), sees) << t;
  }
}

std::vector<const char*> variants() {
  std::vector<const char*> names(8);
  names.resize(cpu_variants(names.data(), 8));
  return names;
}

INSTANTIATE_TEST_SUITE_P(Variants, AttentionCpu, testing::ValuesIn(variants()),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace mot
