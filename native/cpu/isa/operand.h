// Operands of matrix products as they lie in packed blocks: units of 32 bits along the reduction. A unit is one f32 or
// two bf16 (the lower half comes first), so that one kernel serves both. Packed memory is typed float and only moved.
#pragma once
#include "cpu/isa/simd.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

static inline Vec broadcast_unit(const float* unit) {
  int32_t u;
  __builtin_memcpy(&u, unit, 4);
  return from_bits(u - IVec{});
}

template <class T>
static inline Vec load_upto(const T* p, int64_t n) {
  return n >= kWidth ? load(p) : load_n(p, n > 0 ? n : 0);
}

// Every operand defines
//   kDepth                     steps of the reduction in a unit
//   load_row(p, n)             kWidth units from consecutive elements; zero beyond the first n elements
//   load_columns(p, q, n)      for kWidth columns the unit of the elements p[i] and q[i] (q == nullptr: zeros; not used
//                              when kDepth is 1); zero beyond the first n columns
//   units(p, q)                units of vectors p and q (not used when kDepth is 1), lane by lane
//   rounded(p)                 what p is as an operand
//   multiply_add(sum, a, b)    sum + a * b
struct F32Operand {
  static constexpr int kDepth = 1;
  template <class T>
  static inline Vec load_row(const T* p, int64_t n) {
    return load_upto(p, n);
  }
  template <class T>
  static inline Vec load_columns(const T* p, const T*, int64_t n) {
    return load_upto(p, n);
  }
  static inline Vec units(Vec p, Vec) { return p; }
  static inline Vec rounded(Vec p) { return p; }
  static inline Vec multiply_add(Vec sum, Vec a, Vec b) { return fma(a, b, sum); }
};

#if defined(__AVX512BF16__)

struct Bf16Operand {
  static constexpr int kDepth = 2;

  static inline Vec load_row(const float* p, int64_t n) {
    Vec low = load_upto(p, n), high = n > kWidth ? load_upto(p + kWidth, n - kWidth) : zero();
    return reinterpret_cast<Vec>(_mm512_cvtne2ps_pbh(high, low));
  }
  static inline Vec load_row(const bf16* p, int64_t n) {
    if (n >= 2 * kWidth) return load(reinterpret_cast<const float*>(p));
    return reinterpret_cast<Vec>(
        _mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint64_t{1} << (n > 0 ? n : 0)) - 1), p));
  }

  static inline Vec load_columns(const float* p, const float* q, int64_t n) {
    return interleave(reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(q ? load_upto(q, n) : zero(), load_upto(p, n))));
  }
  static inline Vec load_columns(const bf16* p, const bf16* q, int64_t n) {
    __mmask16 mask = n >= kWidth ? 0xffff : mask_range(0, n);
    __m256i low = _mm256_maskz_loadu_epi16(mask, p);
    __m256i high = q ? _mm256_maskz_loadu_epi16(mask, q) : _mm256_setzero_si256();
    return interleave(_mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(low), high, 1));
  }

  static inline Vec units(Vec p, Vec q) { return interleave(reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(q, p))); }
  static inline Vec rounded(Vec p) { return round_bf16(p); }

  static inline Vec multiply_add(Vec sum, Vec a, Vec b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }

 private:
  // 16 + 16 halves to 16 pairs.
  static inline Vec interleave(__m512i halves) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return reinterpret_cast<Vec>(_mm512_maskz_permutexvar_epi16(0xffffffff, order, halves));
  }
};

#else

// Without an instruction for bf16 products: f32 products of rounded operands.
struct Bf16Operand {
  static constexpr int kDepth = 1;
  static inline Vec load_row(const float* p, int64_t n) { return round_bf16(load_upto(p, n)); }
  static inline Vec load_row(const bf16* p, int64_t n) { return load_upto(p, n); }
  static inline Vec load_columns(const float* p, const float*, int64_t n) { return round_bf16(load_upto(p, n)); }
  static inline Vec load_columns(const bf16* p, const bf16*, int64_t n) { return load_upto(p, n); }
  static inline Vec units(Vec p, Vec) { return round_bf16(p); }
  static inline Vec rounded(Vec p) { return round_bf16(p); }
  static inline Vec multiply_add(Vec sum, Vec a, Vec b) { return fma(a, b, sum); }
};

#endif

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
