// The target of a fuzzer: whatever the bytes of a file, the safetensors reader opens it and keeps its promises, or
// throws ERR_FILE_FORMAT. libFuzzer calls it (CMake's MOT_FUZZ, which needs Clang), and safetensors_fuzz_test.cpp does.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "io/safetensors.h"

namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "safetensors: %s\n", what);
  std::abort();
}

// Everything that callers rely on without a check of their own.
void check(const mot::SafetensorsFile& file, int64_t file_bytes) {
  for (const mot::TensorInfo& tensor : file.tensors()) {
    int64_t bits = mot::dtype_bits(tensor.dtype);
    require(bits > 0, "a tensor has a dtype that is unknown");
    for (int64_t size : tensor.shape) require(size >= 0, "a shape has a negative size");
    require(0 <= tensor.begin && tensor.begin <= tensor.end && tensor.end <= file_bytes, "a tensor leaves the file");
    // In an order in which it cannot overflow: the product was checked against the bytes.
    bool empty = false;
    for (int64_t size : tensor.shape) empty |= size == 0;
    int64_t count = empty ? 0 : 1;
    if (!empty)
      for (int64_t size : tensor.shape) {
        require(count <= file_bytes * 8 / size, "a shape holds more than the file");
        count *= size;
      }
    require(count * bits == (tensor.end - tensor.begin) * 8, "a shape does not fill its bytes");
    require(file.find(tensor.name) == &tensor, "a tensor is not found by its name");
    std::vector<uint8_t> copy(tensor.end - tensor.begin);
    file.read(tensor, 0, tensor.end - tensor.begin, copy.data());
    const uint8_t* mapped = file.data(tensor);
    for (size_t i = 0; i < copy.size(); i++) require(mapped[i] == copy[i], "what is read differs from what is mapped");
  }
}

// In memory where there is a place for it: a disk would take most of the time.
const std::string& path() {
  namespace fs = std::filesystem;
  static const fs::path folder = fs::is_directory("/dev/shm") ? "/dev/shm" : fs::temp_directory_path();
  static const std::string file = (folder / ("mot-fuzz-" + std::to_string(getpid()) + ".safetensors")).string();
  return file;
}

}  // namespace

// Returns 0 for a file that is refused, 1 for one that opens; libFuzzer takes any value but -1.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  std::ofstream(path(), std::ios::binary).write(reinterpret_cast<const char*>(bytes), static_cast<int64_t>(size));
  int opened = 0;
  try {
    mot::SafetensorsFile file(path());
    check(file, static_cast<int64_t>(size));
    opened = 1;
  } catch (const mot::Error& error) {
    require(std::string(error.code()) == "ERR_FILE_FORMAT", error.what());
  }
  std::remove(path().c_str());
  return opened;
}
