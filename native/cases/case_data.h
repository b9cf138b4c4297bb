// A case's tensors in memory: filled, guarded, compared.
#pragma once
#include <memory>

#include "cases/case_types.h"
#include "core/arena.h"

namespace mot {

// Zeroed bytes. Large ones lie in huge pages, as a model's do: ops are timed on the memory that they will meet.
class CaseBytes {
 public:
  CaseBytes() = default;
  explicit CaseBytes(size_t size);
  uint8_t* data() { return arena_.data() ? arena_.data() : small_.data(); }
  const uint8_t* data() const { return arena_.data() ? arena_.data() : small_.data(); }
  size_t size() const { return size_; }

 private:
  size_t size_ = 0;
  Arena arena_;
  std::vector<uint8_t> small_;  // its own heap block, so that sanitizers see its ends
};

class CaseData final : public CaseArgs {
 public:
  // Inputs depend on the case's name alone: the same in every dtype. `rounded`: operands are rounded to bf16, so that a
  // bf16 run and its f64 reference see the same numbers. What an op rounds itself is rounded for the reference only.
  CaseData(const OpCase& op_case, DType dtype, bool rounded);
  // For timing: the numbers repeat, and nothing is kept to compare with (no reset, no damage).
  CaseData(const OpCase& op_case, DType dtype);
  ~CaseData() override;

  Matrix matrix(const std::string& name) override;
  TowerWeights towers(const std::string& name) override;
  float* wide(const std::string& name) override;
  int32_t* ints(const std::string& name) override;
  double* doubles(const std::string& name) override;
  DType dtype() const override { return dtype_; }

  double get(const CaseTensor& tensor, int64_t element) const;  // element of the towers * rows * cols without stride
  void set(const CaseTensor& tensor, int64_t element, double value);
  void reset();  // all contents as they were at first
  // Copies an output of another run, rounded to what is stored here: backward then starts from the same forward.
  void copy(const CaseTensor& tensor, const CaseData& from);
  // Names the first tensor whose surroundings (guards, stride padding) or, for inputs, contents have changed; "" if
  // none.
  std::string damage() const;
  bool same_bits(const CaseTensor& tensor, const CaseData& other) const;

 private:
  struct Buffer;
  void fill(Buffer& buffer, bool rounded, bool repeat);
  void add_buffers();
  Buffer& at(const std::string& name) const;
  const OpCase& case_;
  DType dtype_;
  std::map<std::string, std::unique_ptr<Buffer>> buffers_;
};

// Scratch for a case on a backend: sized by the backend's own plan and guarded, so that an op that needs more than it
// asked for is caught.
class CaseWorkspace {
 public:
  CaseWorkspace(const OpCase& op_case, const OpTable& backend, DType dtype, int threads);
  Context context() const;
  bool intact() const;

 private:
  CaseBytes bytes_;
  int64_t size_;
  int threads_;
  uint8_t* start() const;
};

// Compares outputs with the reference's, element by element, and looks for damage around all tensors.
CaseReport compare(const std::vector<const CaseTensor*>& outputs, const CaseData& actual, const CaseData& expected);

}  // namespace mot
