// The vector interface of the CPU kernels: everything that differs between instruction sets is in here and in the
// three headers simd_{avx512,avx2,generic}.h. Kernels are written once on Vec and compiled once per instruction set.
//
// Vec is a GCC vector type, so + - * / and comparisons are written as operators. Functions are `static inline`, and no
// inline function of the C++ library may be used: what is compiled for one instruction set must never be merged into
// another (the linker keeps one copy of equal inline functions).
//
// Storage types are float and bf16; load, store and their _n forms are overloaded on them, so that an op is one
// template over its storage types. Convert single values with store_n(p, set1(x), 1) rather than with the scalar
// bf16_from_f32, so that all elements of a row are rounded by the same instruction.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

using bf16 = uint16_t;

// Before a loop with a constant count: unrolls it whole, so that arrays of Vec indexed in it stay in registers.
#if defined(__clang__)
#define MOT_UNROLL _Pragma("unroll")
#else
#define MOT_UNROLL _Pragma("GCC unroll 32")
#endif

#if defined(__AVX512F__)
static constexpr int kWidth = 16;  // lanes of a Vec
#elif defined(__AVX2__)
static constexpr int kWidth = 8;
#else
static constexpr int kWidth = 4;
#endif

typedef float Vec __attribute__((vector_size(kWidth * 4)));
typedef int32_t IVec __attribute__((vector_size(kWidth * 4)));
typedef uint32_t UVec __attribute__((vector_size(kWidth * 4)));
typedef uint16_t HVec __attribute__((vector_size(kWidth * 2)));  // bf16 lanes

// The numbers of the lanes, 0 .. kWidth-1, as a pack for shuffles.
template <int... kLane>
struct Lanes {};
#if defined(__AVX512F__)
using AllLanes = Lanes<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15>;
#elif defined(__AVX2__)
using AllLanes = Lanes<0, 1, 2, 3, 4, 5, 6, 7>;
#else
using AllLanes = Lanes<0, 1, 2, 3>;
#endif

static inline Vec set1(float x) { return x - Vec{}; }
static inline Vec zero() { return Vec{}; }
static inline float first_lane(Vec v) { return v[0]; }

// Lane bits, unchanged.
static inline IVec bits(Vec v) { return reinterpret_cast<IVec>(v); }
static inline Vec from_bits(IVec v) { return reinterpret_cast<Vec>(v); }

// No alignment is needed anywhere.
static inline Vec load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

static inline void store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof v); }

// f32 to bf16 in integers, to nearest even, as bf16_from_f32 does.
static inline HVec narrow_by_integers(Vec v) {
  UVec u = reinterpret_cast<UVec>(v);
  UVec rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  UVec quiet_nan = (u >> 16) | 0x40u;
  return __builtin_convertvector((u & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded, HVec);
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot

// Each defines, for n in [0, kWidth]:
//   Mask                               one flag per lane
//   mask_range(first, last)            lanes first <= lane < last; any integers
//   less(a, b)                         lanes where a < b (false for NaN)
//   select(mask, a, b)                 a where the flag is set, else b
//   fma(a, b, c) = a * b + c           rounded once where the instruction set can
//   fnma(a, b, c) = c - a * b
//   max(a, b), min(a, b)               b where either is NaN
//   sqrt(a)
//   reciprocal(a)                      1 / a to about 1 ulp, for |a| in [2^-125, 2^125]; NaN passes
//   times_power_of_two(a, n)           a * 2^n for whole n in [-126, 128]
//   narrow(v), widen(h)                to bf16, to nearest even, and back
//   load_n(p, n), store_n(p, v, n)     the first n lanes, p float* or bf16*; loads give 0 beyond
#if defined(__AVX512F__)
#include "cpu/isa/simd_avx512.h"
#elif defined(__AVX2__)
#include "cpu/isa/simd_avx2.h"
#else
#include "cpu/isa/simd_generic.h"
#endif

namespace mot {
namespace MOT_ISA_NAMESPACE {

static inline void store(bf16* p, Vec v) {
  HVec h = narrow(v);
  __builtin_memcpy(p, &h, sizeof h);
}

// What a value becomes when it is stored as bf16 and loaded again.
static inline Vec round_bf16(Vec v) {
#if defined(__AVX512BF16__)
  return widen(narrow(v));
#else
  UVec u = reinterpret_cast<UVec>(v);
  UVec rounded = u + 0x7fffu + ((u >> 16) & 1u);
  UVec quiet_nan = u | 0x400000u;
  return reinterpret_cast<Vec>(((u & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded) & 0xffff0000u);
#endif
}

static inline Vec abs(Vec v) { return from_bits(bits(v) & 0x7fffffff); }

// Transposes the 4 x 4 blocks of four rows: row[i] becomes lane i of every 128 bits of all four. Two instructions a
// row, where exchanging single lanes takes more.
template <int... kLane>
static inline void transpose_fours(Vec* row, Lanes<kLane...>) {
  Vec low[2], high[2];  // of rows 0 and 1, of rows 2 and 3: lanes 0 and 1 in turns, lanes 2 and 3 in turns
  MOT_UNROLL
  for (int i = 0; i < 2; i++) {
    const Vec a = row[2 * i], b = row[2 * i + 1];
    low[i] = __builtin_shufflevector(a, b, ((kLane & ~3) + (kLane & 3) / 2 + (kLane & 1 ? kWidth : 0))...);
    high[i] = __builtin_shufflevector(a, b, ((kLane & ~3) + 2 + (kLane & 3) / 2 + (kLane & 1 ? kWidth : 0))...);
  }
  row[0] = __builtin_shufflevector(low[0], low[1], (kLane & 2 ? kWidth + kLane - 2 : kLane)...);
  row[1] = __builtin_shufflevector(low[0], low[1], (kLane & 2 ? kWidth + kLane : kLane + 2)...);
  row[2] = __builtin_shufflevector(high[0], high[1], (kLane & 2 ? kWidth + kLane - 2 : kLane)...);
  row[3] = __builtin_shufflevector(high[0], high[1], (kLane & 2 ? kWidth + kLane : kLane + 2)...);
}

// For one pair of rows: exchanges the right half of every 2 * kStep lanes of a with the left half of b.
template <int kStep, int... kLane>
static inline void exchange_halves(Vec& a, Vec& b, Lanes<kLane...>) {
  Vec top = __builtin_shufflevector(a, b, (kLane & kStep ? kWidth + kLane - kStep : kLane)...);
  b = __builtin_shufflevector(a, b, (kLane & kStep ? kWidth + kLane : kLane + kStep)...);
  a = top;
}

template <int kStep>
static inline void transpose_step(Vec (&row)[kWidth]) {
  MOT_UNROLL
  for (int i = 0; i < kWidth; i++)
    if (!(i & kStep)) exchange_halves<kStep>(row[i], row[i + kStep], AllLanes{});
}

// row[i][j] becomes row[j][i]; lane bits are only moved.
static inline void transpose(Vec (&row)[kWidth]) {
  MOT_UNROLL
  for (int i = 0; i < kWidth; i += 4) transpose_fours(row + i, AllLanes{});
  if constexpr (kWidth > 4) transpose_step<4>(row);
  if constexpr (kWidth > 8) transpose_step<8>(row);
}

// Lanes are combined in a fixed tree: halves, then halves of halves. `combine` takes two vectors of any width.
template <class V, class F>
static inline float reduce(V v, F&& combine) {
  if constexpr (sizeof(V) == 64) {
    return reduce(combine(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                          __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15)),
                  combine);
  } else if constexpr (sizeof(V) == 32) {
    return reduce(combine(__builtin_shufflevector(v, v, 0, 1, 2, 3), __builtin_shufflevector(v, v, 4, 5, 6, 7)),
                  combine);
  } else {
    v = combine(v, __builtin_shufflevector(v, v, 2, 3, 2, 3));
    return combine(v, __builtin_shufflevector(v, v, 1, 1, 1, 1))[0];
  }
}

static inline float reduce_add(Vec v) {
  return reduce(v, [](auto a, auto b) { return a + b; });
}

static inline float reduce_max(Vec v) {
  return reduce(v, [](auto a, auto b) { return a > b ? a : b; });
}

// x = e^x to about 1 ulp, for x in [-87, 89]; above 88.72 it is infinity. NaN passes. Several vectors step by step side
// by side: one alone would mostly wait for its own last step.
template <int kCount>
static inline void exp_in_range(Vec (&x)[kCount]) {
  // x = n ln 2 + r; r stands in x. Adding 1.5 * 2^23 rounds to an integer.
  const Vec shift = set1(0x1.8p23f);
  Vec n[kCount], p[kCount];
  auto each = [](auto&& step) {
    MOT_UNROLL
    for (int i = 0; i < kCount; i++) step(i);
  };
  each([&](int i) { n[i] = fma(x[i], set1(1.44269504f), shift); });
  each([&](int i) { n[i] = n[i] - shift; });
  // ln 2 in two parts; the first has so few bits that n times it is exact.
  each([&](int i) { x[i] = fnma(n[i], set1(0.693359375f), x[i]); });
  each([&](int i) { x[i] = fnma(n[i], set1(-2.12194440e-4f), x[i]); });
  each([&](int i) { p[i] = fma(set1(1.9875691500e-4f), x[i], set1(1.3981999507e-3f)); });
  each([&](int i) { p[i] = fma(p[i], x[i], set1(8.3334519073e-3f)); });
  each([&](int i) { p[i] = fma(p[i], x[i], set1(4.1665795894e-2f)); });
  each([&](int i) { p[i] = fma(p[i], x[i], set1(1.6666665459e-1f)); });
  each([&](int i) { p[i] = fma(p[i], x[i], set1(5.0000001201e-1f)); });
  each([&](int i) { p[i] = fma(p[i], x[i] * x[i], x[i]); });
  each([&](int i) { x[i] = times_power_of_two(p[i] + 1.f, n[i]); });
}

// x = e^x for any x. Results below 2^-126 are 0 (subnormal numbers are slow operands); above the f32 range, infinity.
template <int kCount>
static inline void exp(Vec (&x)[kCount]) {
  Vec bounded[kCount];
  // The bound comes first in min, so that NaN passes; below -87.33 any value will do.
  MOT_UNROLL
  for (int i = 0; i < kCount; i++) bounded[i] = min(set1(89.f), x[i]);
  exp_in_range(bounded);
  MOT_UNROLL
  for (int i = 0; i < kCount; i++) x[i] = select(less(x[i], set1(-87.33f)), zero(), bounded[i]);
}

static inline Vec exp(Vec x) {
  Vec one[1] = {x};
  exp(one);
  return one[0];
}

// Natural logarithm to about 1 ulp, for normal positive x. NaN and infinity give themselves.
static inline Vec log(Vec x) {
  // x = 2^e m, m in [sqrt(1/2), sqrt(2)).
  IVec e = (bits(x) - 0x3f3504f3) >> 23;
  Vec z = from_bits(bits(x) - (e << 23)) - 1.f;
  Vec n = __builtin_convertvector(e, Vec);
  Vec p = set1(7.0376836292e-2f);
  p = fma(p, z, set1(-1.1514610310e-1f));
  p = fma(p, z, set1(1.1676998740e-1f));
  p = fma(p, z, set1(-1.2420140846e-1f));
  p = fma(p, z, set1(1.4249322787e-1f));
  p = fma(p, z, set1(-1.6668057665e-1f));
  p = fma(p, z, set1(2.0000714765e-1f));
  p = fma(p, z, set1(-2.4999993993e-1f));
  p = fma(p, z, set1(3.3333331174e-1f));
  Vec zz = z * z;
  Vec y = fma(n, set1(-2.12194440e-4f), p * zz * z);
  Vec result = fma(n, set1(0.693359375f), z + fnma(set1(0.5f), zz, y));
  return select(less(x, set1(__builtin_inff())), result, x);
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
