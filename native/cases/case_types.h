// What a case of an op is made of. One tensor list and one pair of calls serve comparison, gradient check and timing.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cases/case.h"
#include "ops/op_table.h"

namespace mot {

// Reads: kInput is given, kOutput is overwritten (poisoned with NaN before), kAccumulate is added to or changed in
// place (random before, so that overwriting it shows).
enum class Role { kInput, kOutput, kAccumulate };

// Stored type: kOperand is the dtype under test (f32, bf16, f64), kWide is f32 (f64 in f64), kDouble f64, kInt i32.
enum class Store { kOperand, kWide, kDouble, kInt };

struct CaseTensor {
  std::string name;
  int64_t rows = 0, cols = 0;
  Role role = Role::kInput;
  Store store = Store::kWide;
  int64_t towers = 1;  // > 1 or in `tower` form: towers x [rows, cols], contiguous
  int64_t pad = 0;     // stride = cols + pad
  double scale = 1;    // inputs: normal * scale + shift
  double shift = 0;
  std::vector<int32_t> ints = {};   // values of kInt
  std::vector<double> values = {};  // values of other inputs that are not random; repeated as often as needed
  // Largest error of an element, relative to the root mean square of its row, a part of that of its tensor, or `floor`
  // (whichever is largest), in units of the tolerance of its stored type.
  double slack = 1;
  double floor = 1e-6;
  bool operand = false;     // stored wide, but the op rounds it to bf16 in bf16: the reference gets it rounded
  bool exact_zeros = true;  // false: rows of zeros come from terms that cancel
  bool rounded = false;  // in bf16 its terms were rounded to bf16 on the way, so f32 storage is no more exact than bf16
};

// A case's tensors in memory, for one dtype.
class CaseArgs {
 public:
  virtual ~CaseArgs() = default;
  virtual Matrix matrix(const std::string& name) = 0;        // {nullptr, ...} when the case has no such tensor
  virtual TowerWeights towers(const std::string& name) = 0;  // data == nullptr likewise
  virtual float* wide(const std::string& name) = 0;          // statistics: float*, double* in f64
  virtual int32_t* ints(const std::string& name) = 0;
  virtual double* doubles(const std::string& name) = 0;
  virtual DType dtype() const = 0;
};

using CaseCall = std::function<int(const OpTable&, const Context&, CaseArgs&)>;

struct OpCase {
  CaseInfo info;
  std::vector<CaseTensor> tensors;
  CaseCall forward, backward;  // backward may be empty
  OpLimits limits = {};
  bool f64 = true;  // false: the op is f32 only (adamw, ema, grad_norm); it is compared in f32

  // Gradient check: loss = sum over pairs of (output * d_output), differentiated with respect to the inputs, is
  // compared with what backward leaves in their gradients. Empty: none.
  std::vector<std::pair<std::string, std::string>> outputs, gradients;

  // Finite differences stay affordable: they run the forward call, on fresh tensors, about a hundred times an input.
  bool small() const {
    int64_t elements = 0;
    for (const CaseTensor& t : tensors) elements += t.towers * t.rows * t.cols;
    return info.flops < 2e6 && elements < 200000;
  }
};

// Every case of one op, appended to the list.
void add_embedding_cases(std::vector<OpCase>& list);
void add_rms_norm_cases(std::vector<OpCase>& list);
void add_grouped_gemm_cases(std::vector<OpCase>& list);
void add_qk_norm_rope_cases(std::vector<OpCase>& list);
void add_attention_cases(std::vector<OpCase>& list);
void add_swiglu_cases(std::vector<OpCase>& list);
void add_router_cases(std::vector<OpCase>& list);
void add_routing_cases(std::vector<OpCase>& list);
void add_dispatch_cases(std::vector<OpCase>& list);
void add_linear_cross_entropy_cases(std::vector<OpCase>& list);
void add_silu_cases(std::vector<OpCase>& list);
void add_squared_error_cases(std::vector<OpCase>& list);
void add_grad_norm_cases(std::vector<OpCase>& list);
void add_adamw_cases(std::vector<OpCase>& list);
void add_ema_cases(std::vector<OpCase>& list);

// All cases; built once.
const std::vector<OpCase>& op_cases();

// Uneven segments over rows: an empty one, one of one row, towers in mixed order with the last tower named twice and
// one tower left out, and the last rows padding where `padding` is given.
std::vector<Segment> uneven_segments(int64_t rows, int64_t towers, int64_t padding = 0);

}  // namespace mot
