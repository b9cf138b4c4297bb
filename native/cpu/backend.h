// The CPU backend's variants, one per instruction set. cpu_backend() of op_table.h picks one of them.
#pragma once
#include "ops/op_table.h"

namespace mot {

// Names of the variants that this machine can run, slowest first ("generic" is always among them). Writes up to `max`
// names, which live as long as the process, and returns how many there are.
int cpu_variants(const char** names, int max);

// The table of one variant; nullptr when this build or this machine lacks it.
const OpTable* cpu_backend_variant(const char* name);

}  // namespace mot
