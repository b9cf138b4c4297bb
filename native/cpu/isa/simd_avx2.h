// simd.h for AVX2 with FMA.
#pragma once
#include <immintrin.h>

namespace mot {
namespace MOT_ISA_NAMESPACE {

typedef IVec Mask;  // all bits of a lane, or none

static inline Mask mask_range(int64_t first, int64_t last) {
  const IVec lane = {0, 1, 2, 3, 4, 5, 6, 7};
  int32_t lo = first < 0 ? 0 : first > kWidth ? kWidth : static_cast<int32_t>(first);
  int32_t hi = last < 0 ? 0 : last > kWidth ? kWidth : static_cast<int32_t>(last);
  return (lane >= lo) & (lane < hi);
}

static inline Mask less(Vec a, Vec b) { return a < b; }

static inline Vec select(Mask mask, Vec a, Vec b) { return _mm256_blendv_ps(b, a, reinterpret_cast<__m256>(mask)); }

static inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline Vec fnma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }
static inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
static inline Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
static inline Vec sqrt(Vec a) { return _mm256_sqrt_ps(a); }
static inline Vec reciprocal(Vec a) { return 1.f / a; }

// In two factors, since 2^128 is no f32.
static inline Vec times_power_of_two(Vec a, Vec n) {
  IVec i = __builtin_convertvector(n, IVec), half = i >> 1;
  return a * from_bits((half + 127) << 23) * from_bits((i - half + 127) << 23);
}

static inline HVec narrow(Vec v) { return narrow_by_integers(v); }
static inline Vec widen(HVec h) { return reinterpret_cast<Vec>(__builtin_convertvector(h, UVec) << 16); }

static inline Vec load(const bf16* p) {
  HVec h;
  __builtin_memcpy(&h, p, sizeof h);
  return widen(h);
}

static inline Vec load_n(const float* p, int64_t n) {
  return _mm256_maskload_ps(p, reinterpret_cast<__m256i>(mask_range(0, n)));
}

static inline void store_n(float* p, Vec v, int64_t n) {
  _mm256_maskstore_ps(p, reinterpret_cast<__m256i>(mask_range(0, n)), v);
}

// There is no masked access to 16-bit lanes.
static inline Vec load_n(const bf16* p, int64_t n) {
  bf16 lanes[kWidth] = {};
  for (int64_t i = 0; i < n; i++) lanes[i] = p[i];
  return load(lanes);
}

static inline void store_n(bf16* p, Vec v, int64_t n) {
  HVec h = narrow(v);
  bf16 lanes[kWidth];
  __builtin_memcpy(lanes, &h, sizeof h);
  for (int64_t i = 0; i < n; i++) p[i] = lanes[i];
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
