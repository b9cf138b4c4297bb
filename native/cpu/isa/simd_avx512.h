// simd.h for AVX-512 (F, BW, DQ, VL), with or without BF16.
#pragma once
#include <immintrin.h>

namespace mot {
namespace MOT_ISA_NAMESPACE {

typedef __mmask16 Mask;

static inline Mask mask_range(int64_t first, int64_t last) {
  uint32_t lo = first < 0 ? 0 : first > kWidth ? kWidth : static_cast<uint32_t>(first);
  uint32_t hi = last < 0 ? 0 : last > kWidth ? kWidth : static_cast<uint32_t>(last);
  return static_cast<Mask>(((1u << hi) - 1) & ~((1u << lo) - 1));
}

static inline Mask less(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline Vec select(Mask mask, Vec a, Vec b) { return _mm512_mask_blend_ps(mask, b, a); }
static inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline Vec fnma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }
// Zero-masked with all lanes set, the same instruction: GCC's plain forms give a false warning (its bug 105593).
static inline Vec max(Vec a, Vec b) { return _mm512_maskz_max_ps(0xffff, a, b); }
static inline Vec min(Vec a, Vec b) { return _mm512_maskz_min_ps(0xffff, a, b); }
static inline Vec sqrt(Vec a) { return _mm512_maskz_sqrt_ps(0xffff, a); }

// One Newton step from 14 bits: less than half the time of a division.
static inline Vec reciprocal(Vec a) {
  Vec r = _mm512_maskz_rcp14_ps(0xffff, a);
  return fma(r, fnma(a, r, _mm512_set1_ps(1.f)), r);
}

static inline Vec times_power_of_two(Vec a, Vec n) { return _mm512_maskz_scalef_ps(0xffff, a, n); }

#if defined(__AVX512BF16__)
// Takes subnormal numbers for 0, as the dot product of bf16 pairs does anyway.
static inline HVec narrow(Vec v) { return reinterpret_cast<HVec>(_mm512_cvtneps_pbh(v)); }
#else
static inline HVec narrow(Vec v) { return narrow_by_integers(v); }
#endif

// One instruction; GCC 12 makes five of __builtin_convertvector.
static inline Vec widen(HVec h) {
  __m512i lanes = _mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(h));
  return reinterpret_cast<Vec>(reinterpret_cast<UVec>(lanes) << 16);
}

static inline Vec load(const bf16* p) {
  HVec h;
  __builtin_memcpy(&h, p, sizeof h);
  return widen(h);
}

static inline Mask first_lanes(int64_t n) { return static_cast<Mask>((1u << n) - 1); }
static inline Vec load_n(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
static inline void store_n(float* p, Vec v, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }

static inline Vec load_n(const bf16* p, int64_t n) {
  return widen(reinterpret_cast<HVec>(_mm256_maskz_loadu_epi16(first_lanes(n), p)));
}

static inline void store_n(bf16* p, Vec v, int64_t n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n), reinterpret_cast<__m256i>(narrow(v)));
}

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
