// CRC-32 as in zlib and gzip, eight bytes a step ("slicing by 8"): well above the speed of disks.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace mot {

using Crc32Table = std::array<std::array<uint32_t, 256>, 8>;

constexpr Crc32Table make_crc32_table() {
  Crc32Table table{};
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xEDB88320u ^ c >> 1 : c >> 1;
    table[0][i] = c;
  }
  for (size_t k = 1; k < 8; k++)
    for (size_t i = 0; i < 256; i++) table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
  return table;
}

inline constexpr Crc32Table kCrc32Table = make_crc32_table();

class Crc32 {
 public:
  void add(const void* data, size_t bytes) {
    const Crc32Table& t = kCrc32Table;
    auto p = static_cast<const uint8_t*>(data);
    uint32_t c = state_;
    for (; bytes >= 8; bytes -= 8, p += 8) {
      uint32_t a = c ^ (uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24);
      c = t[7][a & 255] ^ t[6][a >> 8 & 255] ^ t[5][a >> 16 & 255] ^ t[4][a >> 24] ^ t[3][p[4]] ^ t[2][p[5]] ^
          t[1][p[6]] ^ t[0][p[7]];
    }
    for (; bytes > 0; bytes--, p++) c = t[0][(c ^ *p) & 255] ^ c >> 8;
    state_ = c;
  }
  uint32_t value() const { return ~state_; }

 private:
  uint32_t state_ = 0xFFFFFFFFu;
};

}  // namespace mot
