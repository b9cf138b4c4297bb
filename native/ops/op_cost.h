// What a call of an op must compute and move at least: the floor that a profile holds its time against.
//   flops: useful ones, a multiply-add is 2; attention counts visible pairs only, 2 products forward, 5 backward.
//   bytes: every argument read or written once, weights included; no scratch, no second reads.
#pragma once
#include "ops/op_table.h"

namespace mot {

struct OpCost {
  double flops, bytes;
};

#define MOT_OP_COST(function, Params) \
  OpCost op_cost(const Params& p);    \
  inline const char* op_name(const Params&) { return #function; }
MOT_OPS(MOT_OP_COST)
#undef MOT_OP_COST

}  // namespace mot
