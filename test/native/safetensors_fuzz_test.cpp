// The fuzzer's target on a fixed number of damaged files, for every compiler: 20,000, or 200,000 with MOT_TEST_ALL=1.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size);

namespace mot {
namespace {

std::string file_of(const std::string& header, size_t data_bytes) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; i++) bytes[i] = static_cast<char>(header.size() >> (8 * i));
  return bytes + header + std::string(data_bytes, 'x');
}

// Files that open; between them every part of the format.
const std::vector<std::string>& seeds() {
  static const std::vector<std::string> files = {
      file_of(R"({})", 0),
      file_of(R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})", 24),
      file_of(R"({"__metadata__":{"k":"v\u00e9\ud83d\ude42\n"},"b":{"dtype":"U8","shape":[],"data_offsets":[0,1]},)"
              R"("a":{"data_offsets":[1,1],"shape":[4,0],"dtype":"BF16"}})",
              1),
      file_of(R"({"x":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"y":{"dtype":"BOOL","shape":[3],)"
              R"("data_offsets":[8,11]}} )",
              11),
  };
  return files;
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  std::string next() {
    std::string bytes = seeds()[below(seeds().size())];
    for (uint64_t edits = 1 + below(4); edits > 0; edits--) edit(bytes);
    // Most damage moves the end of the header; half of the files say where it is, so that it gets to the parser.
    size_t end = bytes.rfind('}');
    if (bytes.size() > 8 && end != std::string::npos && end >= 8 && below(2)) {
      for (int i = 0; i < 8; i++) bytes[i] = static_cast<char>((end + 1 - 8) >> (8 * i));
    }
    return bytes;
  }

 private:
  // Not evenly for n that is no power of two, which does not matter here.
  uint64_t below(uint64_t n) { return random_() % n; }

  void edit(std::string& bytes) {
    static const std::string json = "0123456789[]{}\",:-.eE \\u";
    if (bytes.empty()) return;
    size_t at = below(bytes.size());
    switch (below(8)) {
      case 0: bytes[at] = static_cast<char>(below(256)); return;
      case 1: bytes.resize(at); return;
      case 2: bytes.erase(at, 1 + below(30)); return;
      case 3:  // A piece comes twice: keys, brackets, offsets.
        bytes.insert(below(bytes.size()), bytes.substr(at, 1 + below(40)));
        return;
      case 4:  // Large and negative numbers where numbers are.
        bytes.insert(at, below(2) ? "99999999999999999999" : "-9223372036854775808");
        return;
      case 5: bytes[at % 8] = static_cast<char>(below(256)); return;
      default: bytes[at] = json[below(json.size())];
    }
  }

  std::mt19937_64 random_;
};

TEST(SafetensorsFuzz, DamagedFilesAreRefusedOrKeepEveryPromise) {
  for (const std::string& file : seeds())
    ASSERT_EQ(LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(file.data()), file.size()), 1) << file;
  const char* all = std::getenv("MOT_TEST_ALL");
  const int runs = all != nullptr && std::string(all) == "1" ? 200'000 : 20'000;
  Mutator mutator(6);
  int opened = 0;
  for (int run = 0; run < runs; run++) {
    std::string file = mutator.next();
    opened += LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(file.data()), file.size());
  }
  // A reader that refuses, or accepts, everything would pass.
  EXPECT_GT(opened, runs / 100);
  EXPECT_LT(opened, runs / 2);
}

}  // namespace
}  // namespace mot
