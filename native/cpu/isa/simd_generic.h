// simd.h in plain GCC vectors, for any processor.
#pragma once

namespace mot {
namespace MOT_ISA_NAMESPACE {

typedef IVec Mask;  // all bits of a lane, or none

static inline Mask mask_range(int64_t first, int64_t last) {
  Mask mask;
  for (int i = 0; i < kWidth; i++) mask[i] = i >= first && i < last ? -1 : 0;
  return mask;
}

static inline Mask less(Vec a, Vec b) { return a < b; }
static inline Vec select(Mask mask, Vec a, Vec b) { return mask ? a : b; }
static inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
static inline Vec fnma(Vec a, Vec b, Vec c) { return c - a * b; }
static inline Vec max(Vec a, Vec b) { return a > b ? a : b; }
static inline Vec min(Vec a, Vec b) { return a < b ? a : b; }

static inline Vec sqrt(Vec a) {
  for (int i = 0; i < kWidth; i++) a[i] = __builtin_sqrtf(a[i]);
  return a;
}

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
  Vec v = {};
  for (int i = 0; i < kWidth; i++)
    if (i < n) v[i] = p[i];
  return v;
}

static inline Vec load_n(const bf16* p, int64_t n) {
  HVec h = {};
  for (int i = 0; i < kWidth; i++)
    if (i < n) h[i] = p[i];
  return widen(h);
}

static inline void store_n(float* p, Vec v, int64_t n) {
  for (int i = 0; i < kWidth; i++)
    if (i < n) p[i] = v[i];
}

static inline void store_n(bf16* p, Vec v, int64_t n) {
  HVec h = narrow(v);
  for (int i = 0; i < kWidth; i++)
    if (i < n) p[i] = h[i];
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
