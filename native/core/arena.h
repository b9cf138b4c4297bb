// One block of memory for everything a model needs, in huge pages where the system allows them. The first touch of a
// 4 KiB page costs microseconds on virtual machines, so nothing is mapped or unmapped within a step.
#pragma once
#include <cstddef>
#include <cstdint>

namespace mot {

class Arena {
 public:
  Arena() = default;
  // Zeroed. Throws Error("ERR_MEMORY").
  explicit Arena(int64_t bytes);
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  uint8_t* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  int64_t bytes_ = 0;   // asked for
  int64_t mapped_ = 0;  // whole pages
};

}  // namespace mot
