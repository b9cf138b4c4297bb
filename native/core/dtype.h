// Element types and their conversions. Plain C types, so that they can cross the op table. Functions are static, so
// that the copy compiled for one instruction set is never merged into another translation unit.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mot {

enum DType : int32_t {
  kF32 = 0,
  kBF16 = 1,  // stored as the upper 16 bits of an f32
  kF64 = 2,   // reference backend only: gradient checks
  kI32 = 3,
  kU8 = 4,
  kI64 = 5,
};

static constexpr size_t dtype_size(DType t) {
  switch (t) {
    case kBF16: return 2;
    case kF64:
    case kI64: return 8;
    case kU8: return 1;
    default: return 4;
  }
}

static constexpr const char* dtype_name(DType t) {
  switch (t) {
    case kF32: return "F32";
    case kBF16: return "BF16";
    case kF64: return "F64";
    case kI32: return "I32";
    case kU8: return "U8";
    case kI64: return "I64";
  }
  return "?";
}

// Rounds to nearest even; NaN stays NaN (its payload's top bit is set so that truncation cannot make it infinite).
static inline uint16_t bf16_from_f32(float x) {
  uint32_t u;
  std::memcpy(&u, &x, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

static inline float f32_from_bf16(uint16_t b) {
  uint32_t u = static_cast<uint32_t>(b) << 16;
  float x;
  std::memcpy(&x, &u, 4);
  return x;
}

}  // namespace mot
