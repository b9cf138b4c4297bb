#include "cpu/backend.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace mot {

namespace generic {
extern const OpTable op_table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const OpTable op_table;
}
namespace avx512 {
extern const OpTable op_table;
}
namespace avx512bf16 {
extern const OpTable op_table;
}
#endif

namespace {

struct Variant {
  const OpTable* table;
  bool (*runs_here)();
};

// __builtin_cpu_supports also asks whether the operating system saves the registers.
const Variant kVariants[] = {
    {&generic::op_table, [] { return true; }},
#if defined(__x86_64__)
    {&avx2::op_table,
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"); }},
    {&avx512::op_table,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
     }},
    {&avx512bf16::op_table,
     [] { return cpu_backend_variant("avx512") != nullptr && __builtin_cpu_supports("avx512bf16"); }},
#endif
};

}  // namespace

int cpu_variants(const char** names, int max) {
  int count = 0;
  for (const Variant& variant : kVariants)
    if (variant.runs_here()) {
      if (count < max) names[count] = variant.table->variant;
      count++;
    }
  return count;
}

const OpTable* cpu_backend_variant(const char* name) {
  for (const Variant& variant : kVariants)
    if (std::strcmp(variant.table->variant, name) == 0) return variant.runs_here() ? variant.table : nullptr;
  return nullptr;
}

const OpTable* cpu_backend(const char** why) {
  constexpr int kMax = sizeof kVariants / sizeof kVariants[0];
  const char* names[kMax];
  int count = cpu_variants(names, kMax);
  const char* asked = std::getenv("MOT_ISA");
  if (!asked || !*asked) return cpu_backend_variant(names[count - 1]);
  if (const OpTable* table = cpu_backend_variant(asked)) return table;

  thread_local char message[256];
  int length =
      std::snprintf(message, sizeof message,
                    "[cpu] MOT_ISA is \"%.40s\", which this machine does not run; unset it or choose one of:", asked);
  for (int i = 0; i < count; i++)
    length += std::snprintf(message + length, sizeof message - static_cast<size_t>(length), " %s", names[i]);
  if (why) *why = message;
  return nullptr;
}

}  // namespace mot
