// The op table of one instruction set.
#include "cpu/backend.h"

#include "cpu/isa/kernels.h"
#include "cpu/status.h"

namespace mot {
namespace MOT_ISA_NAMESPACE {

static int64_t workspace_bytes(const OpLimits* limits) {
  int64_t most = 0;
#define MOT_LARGEST_WORKSPACE(function) \
  {                                     \
    int64_t bytes = function(*limits);  \
    if (bytes > most) most = bytes;     \
  }
  MOT_CPU_WORKSPACES(MOT_LARGEST_WORKSPACE)
#undef MOT_LARGEST_WORKSPACE
  return most;
}

extern const OpTable op_table;
const OpTable op_table = {kOpTableVersion,      "cpu", MOT_ISA_NAME, 1, workspace_bytes, cpu_last_error,
#define MOT_OP_ENTRY(function, Params) function,
                          MOT_OPS(MOT_OP_ENTRY)
#undef MOT_OP_ENTRY
};

}  // namespace MOT_ISA_NAMESPACE
}  // namespace mot
