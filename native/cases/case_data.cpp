#include "cases/case_data.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "core/rng.h"

namespace mot {

namespace {

constexpr int64_t kGuard = 64;      // elements before and after each tensor
constexpr uint8_t kPattern = 0xA7;  // as f32, bf16 and f64 a number that no op writes

// Error that arithmetic may leave, relative to the size of a row: f64, operands rounded to bf16 on the way, or sums of
// about a thousand terms in f32.
double arithmetic_tolerance(bool f64, bool rounded) { return f64 ? 1e-9 : rounded ? 6e-3 : 1e-5; }

// Error of storing a value, relative to the value itself: half a unit in the last place.
double storage_tolerance(DType stored) { return stored == kBF16 ? 0x1p-8 : stored == kF64 ? 0 : 0x1p-24; }

constexpr size_t kLarge = size_t{1} << 20;  // bytes from which a block lies in huge pages
constexpr int64_t kPeriod = 262139;         // of the numbers of timed cases, a prime: no two rows are alike

double element(const uint8_t* data, DType stored, int64_t i) {
  switch (stored) {
    case kF64: return reinterpret_cast<const double*>(data)[i];
    case kBF16: return f32_from_bf16(reinterpret_cast<const uint16_t*>(data)[i]);
    case kI32: return reinterpret_cast<const int32_t*>(data)[i];
    default: return reinterpret_cast<const float*>(data)[i];
  }
}

void set_element(uint8_t* data, DType stored, int64_t i, double value) {
  switch (stored) {
    case kF64: reinterpret_cast<double*>(data)[i] = value; break;
    case kBF16: reinterpret_cast<uint16_t*>(data)[i] = bf16_from_f32(static_cast<float>(value)); break;
    case kI32: reinterpret_cast<int32_t*>(data)[i] = static_cast<int32_t>(value); break;
    default: reinterpret_cast<float*>(data)[i] = static_cast<float>(value);
  }
}

}  // namespace

CaseBytes::CaseBytes(size_t size) : size_(size) {
  if (size >= kLarge)
    arena_ = Arena(static_cast<int64_t>(size));
  else
    small_.resize(size);
}

struct CaseData::Buffer {
  const CaseTensor* tensor;
  DType stored;
  int64_t stride, elements;  // elements with stride padding, without guards
  CaseBytes bytes;
  std::vector<uint8_t> before;  // contents after filling
  std::vector<void*> tower_pointers;

  uint8_t* data() { return bytes.data() + kGuard * dtype_size(stored); }
  const uint8_t* data() const { return bytes.data() + kGuard * dtype_size(stored); }
  int64_t place(int64_t element) const { return element / tensor->cols * stride + element % tensor->cols; }
};

CaseData::CaseData(const OpCase& op_case, DType dtype, bool rounded) : case_(op_case), dtype_(dtype) {
  add_buffers();
  for (auto& [name, buffer] : buffers_) {
    fill(*buffer, rounded, false);
    buffer->before.assign(buffer->bytes.data(), buffer->bytes.data() + buffer->bytes.size());
  }
}

CaseData::CaseData(const OpCase& op_case, DType dtype) : case_(op_case), dtype_(dtype) {
  add_buffers();
  for (auto& [name, buffer] : buffers_) fill(*buffer, dtype == kBF16, true);
}

void CaseData::add_buffers() {
  for (const CaseTensor& t : case_.tensors) {
    auto buffer = std::make_unique<Buffer>();
    Buffer& b = *buffer;
    b.tensor = &t;
    b.stored = t.store == Store::kInt      ? kI32
               : t.store == Store::kDouble ? kF64
               : t.store == Store::kWide   ? (dtype_ == kF64 ? kF64 : kF32)
                                           : dtype_;
    b.stride = t.cols + t.pad;
    b.elements = t.towers * t.rows * b.stride;
    b.bytes = CaseBytes(static_cast<size_t>(b.elements + 2 * kGuard) * dtype_size(b.stored));
    std::memset(b.bytes.data(), kPattern, b.bytes.size());
    for (int64_t tower = 0; tower < t.towers; tower++)
      b.tower_pointers.push_back(b.data() + static_cast<size_t>(tower * t.rows * b.stride) * dtype_size(b.stored));
    buffers_[t.name] = std::move(buffer);
  }
}

void CaseData::fill(Buffer& b, bool rounded, bool repeat) {
  const CaseTensor& t = *b.tensor;
  const int64_t count = t.towers * t.rows * t.cols;
  RngKey key = rng_key(1, case_.info.name + "/" + t.name);
  for (int64_t i = 0; i < count; i++) {
    double value;
    if (t.store == Store::kInt)
      value = t.ints[static_cast<size_t>(i)];
    else if (t.role == Role::kOutput)
      value = std::numeric_limits<double>::quiet_NaN();
    else if (!t.values.empty())
      value = t.values[static_cast<size_t>(i) % t.values.size()];
    else if (repeat && i >= kPeriod)
      value = element(b.data(), b.stored, b.place(i - kPeriod));
    else
      value = t.scale * normal(key, static_cast<uint64_t>(i)) + t.shift;
    if (rounded && (t.store == Store::kOperand || (t.operand && dtype_ != kBF16)))
      value = f32_from_bf16(bf16_from_f32(static_cast<float>(value)));
    else if (t.store != Store::kInt && t.store != Store::kDouble)
      value = static_cast<float>(value);
    set_element(b.data(), b.stored, b.place(i), value);
  }
}

CaseData::~CaseData() = default;

CaseData::Buffer& CaseData::at(const std::string& name) const {
  auto found = buffers_.find(name);
  if (found == buffers_.end())
    throw errorf("ERR_INTERNAL", "[case %s] has no tensor %s", case_.info.name.c_str(), name.c_str());
  return *found->second;
}

Matrix CaseData::matrix(const std::string& name) {
  if (!buffers_.count(name)) return {nullptr, dtype_, 0, 0, 0};
  Buffer& b = at(name);
  return {b.data(), b.stored, b.tensor->rows * b.tensor->towers, b.tensor->cols, b.stride};
}

TowerWeights CaseData::towers(const std::string& name) {
  if (!buffers_.count(name)) return {nullptr, 0, dtype_ == kF64 ? kF64 : kF32, 0, 0};
  Buffer& b = at(name);
  return {b.tower_pointers.data(), b.tensor->towers, b.stored, b.tensor->rows, b.tensor->cols};
}

float* CaseData::wide(const std::string& name) { return reinterpret_cast<float*>(at(name).data()); }
int32_t* CaseData::ints(const std::string& name) { return reinterpret_cast<int32_t*>(at(name).data()); }
double* CaseData::doubles(const std::string& name) { return reinterpret_cast<double*>(at(name).data()); }

double CaseData::get(const CaseTensor& tensor, int64_t i) const {
  const Buffer& b = at(tensor.name);
  return element(b.data(), b.stored, b.place(i));
}

void CaseData::set(const CaseTensor& tensor, int64_t i, double value) {
  Buffer& b = at(tensor.name);
  set_element(b.data(), b.stored, b.place(i), value);
}

void CaseData::reset() {
  for (auto& [name, buffer] : buffers_) std::memcpy(buffer->bytes.data(), buffer->before.data(), buffer->before.size());
}

void CaseData::copy(const CaseTensor& tensor, const CaseData& from) {
  for (int64_t i = 0; i < tensor.towers * tensor.rows * tensor.cols; i++) set(tensor, i, from.get(tensor, i));
}

std::string CaseData::damage() const {
  for (const auto& [name, buffer] : buffers_) {
    const Buffer& b = *buffer;
    const size_t size = dtype_size(b.stored);
    const bool input = b.tensor->role == Role::kInput;
    for (size_t byte = 0; byte < b.bytes.size(); byte++) {
      const int64_t element = static_cast<int64_t>(byte / size) - kGuard;
      const bool outside = element < 0 || element >= b.elements || element % b.stride >= b.tensor->cols;
      if ((outside || input) && b.bytes.data()[byte] != b.before[byte])
        return name + (outside ? ": written outside its elements" : ": an input was changed");
    }
  }
  return "";
}

bool CaseData::same_bits(const CaseTensor& tensor, const CaseData& other) const {
  const CaseBytes &a = at(tensor.name).bytes, &b = other.at(tensor.name).bytes;
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

CaseWorkspace::CaseWorkspace(const OpCase& op_case, const OpTable& backend, DType dtype, int threads)
    : threads_(threads) {
  OpLimits limits = op_case.limits;
  limits.threads = threads;
  limits.compute = dtype;
  size_ = backend.workspace_bytes(&limits);
  // Poisoned: scratch is undefined before a call, so NaN must not show in any result.
  bytes_ = CaseBytes(static_cast<size_t>(size_) + 64 + 2 * kGuard);
  std::memset(bytes_.data(), 0xFF, bytes_.size());
}

uint8_t* CaseWorkspace::start() const {
  auto address = reinterpret_cast<uintptr_t>(bytes_.data()) + kGuard;
  return reinterpret_cast<uint8_t*>((address + 63) / 64 * 64);
}

Context CaseWorkspace::context() const { return {threads_, start(), size_}; }

bool CaseWorkspace::intact() const {
  for (const uint8_t* p = bytes_.data(); p < start(); p++)
    if (*p != 0xFF) return false;
  for (const uint8_t* p = start() + size_; p < bytes_.data() + bytes_.size(); p++)
    if (*p != 0xFF) return false;
  return true;
}

CaseReport compare(const std::vector<const CaseTensor*>& outputs, const CaseData& actual, const CaseData& expected) {
  CaseReport report;
  for (const CaseTensor* output : outputs) {
    const CaseTensor& t = *output;
    const DType stored = t.store == Store::kDouble || actual.dtype() == kF64 ? kF64
                         : t.store == Store::kWide                           ? kF32
                                                                             : actual.dtype();
    const double relative = t.slack * arithmetic_tolerance(stored == kF64, t.rounded && actual.dtype() == kBF16);
    const int64_t rows = t.towers * t.rows;
    double tensor_square = 0;
    for (int64_t i = 0; i < rows * t.cols; i++) tensor_square += expected.get(t, i) * expected.get(t, i);
    const double tensor_rms = rows > 0 ? std::sqrt(tensor_square / static_cast<double>(rows * t.cols)) : 0;
    for (int64_t r = 0; r < rows; r++) {
      double square = 0;
      for (int64_t c = 0; c < t.cols; c++) square += std::pow(expected.get(t, r * t.cols + c), 2);
      // A row of zeros (padding, no target, never seen) must be zero to the bit.
      const bool zero = square == 0 && t.exact_zeros;
      const double scale =
          std::fmax(std::sqrt(square / static_cast<double>(t.cols)), std::fmax(0.3 * tensor_rms, t.floor));
      for (int64_t c = 0; c < t.cols; c++) {
        const double x = actual.get(t, r * t.cols + c), y = expected.get(t, r * t.cols + c);
        const double bound = relative * scale + storage_tolerance(stored) * std::fabs(y);
        const double error = zero ? (x == 0 ? 0 : 1e9) : std::fabs(x - y) / bound;
        if (error <= report.worst) continue;  // NaN falls through
        report.worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
        if (report.worst <= 1) continue;
        char text[256];
        std::snprintf(text, sizeof text, "%s[%lld, %lld]: got %.9g, expected %.9g, tolerance %.3g", t.name.c_str(),
                      static_cast<long long>(r), static_cast<long long>(c), x, y, zero ? 0 : bound);
        report.message = text;
      }
    }
  }
  const std::string damage = actual.damage();
  if (!damage.empty()) return {1e9, damage};
  return report;
}

}  // namespace mot
