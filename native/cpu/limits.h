// What this machine can do at most, measured: the yardstick of every benchmark. The clock of a shared machine wanders,
// so it is measured beside the figures that are held against it.
#pragma once
#include <cstdint>

namespace mot {

// Probes of one instruction set.
struct PeakKernels {
  const char* variant;
  // Multiply-adds in registers, `rounds` times; flops_* are the floating-point operations of one round. The result
  // depends on all of them.
  float (*multiply_add_f32)(int64_t rounds);
  float (*multiply_add_bf16)(int64_t rounds);
  double f32_flops, bf16_flops;
  // Streams of n floats, n a multiple of 64; pointers aligned to 64 bytes.
  float (*read)(const float* from, int64_t n);
  void (*copy)(float* to, const float* from, int64_t n);         // through the caches
  void (*copy_around)(float* to, const float* from, int64_t n);  // stores past the caches, where the set has them
};

struct MachineLimits {
  double f32_gflops, bf16_gflops;  // bf16 products with f32 sums; the f32 peak where there is no instruction for them
  double read_gbps, copy_gbps;     // of DRAM; copy counts bytes read and bytes written
};

// The best of several short runs on the instruction set that cpu_backend() picks. Throws Error("ERR_UNSUPPORTED") where
// there is none, Error("ERR_MEMORY") without 256 MiB of memory for
// the streams.
MachineLimits measure_limits(int threads);

}  // namespace mot
