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

static inline HVec narrow(Vec v) { return narrow_by_integers(v); }

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
