// Probes of what one instruction set can do at most; see cpu/limits.h.
#include "cpu/isa/operand.h"
#include "cpu/limits.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

// Sums in registers: enough that no multiply-add waits for the one before it (latency times units), few enough that
// none is spilled.
static constexpr int kSums = kWidth == 16 ? 24 : 12;

// The operands come from memory that the compiler must take for changeable, so that no product is known beforehand.
static volatile float left_value = 0.5f, right_value = 0.25f;

template <class Operand>
static float multiply_add_rounds(int64_t rounds) {
  const Vec left = set1(left_value), right = set1(right_value);
  Vec sum[kSums];
  MOT_UNROLL
  for (int i = 0; i < kSums; i++) sum[i] = set1(static_cast<float>(i));
  for (int64_t round = 0; round < rounds; round++) {
    MOT_UNROLL
    for (int i = 0; i < kSums; i++) sum[i] = Operand::multiply_add(sum[i], left, right);
  }
  Vec all = zero();
  MOT_UNROLL
  for (int i = 0; i < kSums; i++) all += sum[i];
  return reduce_add(all);
}

static float read_stream(const float* from, int64_t n) {
  Vec sum[4] = {zero(), zero(), zero(), zero()};
  for (int64_t i = 0; i < n; i += 4 * kWidth) {
    MOT_UNROLL
    for (int j = 0; j < 4; j++) sum[j] += load(from + i + j * kWidth);
  }
  return reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static void copy_stream(float* to, const float* from, int64_t n) {
  for (int64_t i = 0; i < n; i += kWidth) store(to + i, load(from + i));
}

static void copy_stream_around(float* to, const float* from, int64_t n) {
#if defined(__AVX512F__)
  for (int64_t i = 0; i < n; i += kWidth) _mm512_stream_ps(to + i, load(from + i));
  _mm_sfence();
#elif defined(__AVX2__)
  for (int64_t i = 0; i < n; i += kWidth) _mm256_stream_ps(to + i, load(from + i));
  _mm_sfence();
#else
  copy_stream(to, from, n);
#endif
}

extern const PeakKernels peak_kernels;
const PeakKernels peak_kernels = {MOT_ISA_NAME,
                                  multiply_add_rounds<F32Operand>,
                                  multiply_add_rounds<Bf16Operand>,
                                  2.0 * kSums* kWidth* F32Operand::kDepth,
                                  2.0 * kSums* kWidth* Bf16Operand::kDepth,
                                  read_stream,
                                  copy_stream,
                                  copy_stream_around};

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
