#include "core/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "core/error.h"

namespace mot {

namespace {
constexpr int64_t kHugePage = int64_t{2} << 20;
}

Arena::Arena(int64_t bytes) : bytes_(bytes) {
  mapped_ = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  if (mapped_ == 0) return;
  // Mapped with slack, so that the block can start at a huge-page boundary; the ends are given back.
  size_t size = static_cast<size_t>(mapped_ + kHugePage);
  void* raw = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED)
    throw errorf(
        "ERR_MEMORY",
        "[arena] the model's memory plan needs %.2f GiB, which the system refused; lower the batch's tokens, the "
        "model's size, or threads",
        static_cast<double>(bytes) / (1ull << 30));
  auto start = reinterpret_cast<uintptr_t>(raw);
  uintptr_t aligned = (start + kHugePage - 1) / kHugePage * kHugePage;
  if (aligned > start) munmap(raw, aligned - start);
  uintptr_t end = start + size;
  uintptr_t used_end = aligned + static_cast<uintptr_t>(mapped_);
  if (end > used_end) munmap(reinterpret_cast<void*>(used_end), end - used_end);
  data_ = reinterpret_cast<uint8_t*>(aligned);
#ifdef MADV_HUGEPAGE
  madvise(data_, static_cast<size_t>(mapped_), MADV_HUGEPAGE);  // advice: no harm where it is not taken
#endif
}

Arena::~Arena() {
  if (data_) munmap(data_, static_cast<size_t>(mapped_));
}

Arena::Arena(Arena&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      mapped_(std::exchange(other.mapped_, 0)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

}  // namespace mot
