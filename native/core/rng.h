// Counter-based random numbers (Philox 4x32-10, Salmon et al. 2011): value i of a key is a pure function of both, so
// draws do not depend on order, threads or resuming.
#pragma once
#include <cmath>
#include <cstdint>
#include <string_view>

namespace mot {

struct RngKey {
  uint32_t hi, lo;
};

// Key of (seed, name), by FNV-1a over the name.
inline RngKey rng_key(uint64_t seed, std::string_view name) {
  uint64_t h = 0xcbf29ce484222325ull;
  for (unsigned char c : name) h = (h ^ c) * 0x100000001b3ull;
  h ^= seed * 0x9e3779b97f4a7c15ull;
  h = (h ^ (h >> 31)) * 0xbf58476d1ce4e5b9ull;
  h ^= h >> 29;
  return {static_cast<uint32_t>(h >> 32), static_cast<uint32_t>(h)};
}

// Four 32-bit words for counter value `index`.
inline void philox(RngKey key, uint64_t index, uint32_t out[4]) {
  uint32_t c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = key.lo, k1 = key.hi;
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
    uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

// Uniform in [0, 1), 24 bits.
inline float uniform(RngKey key, uint64_t index) {
  uint32_t w[4];
  philox(key, index, w);
  return static_cast<float>(w[0] >> 8) * 0x1p-24f;
}

// Standard normal (Box-Muller in f64).
inline float normal(RngKey key, uint64_t index) {
  uint32_t w[4];
  philox(key, index, w);
  double u = (w[0] + 1.0) * 0x1p-32, t = w[1] * 0x1p-32;
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * t));
}

}  // namespace mot
