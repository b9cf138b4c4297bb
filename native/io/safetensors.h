// The safetensors format (https://github.com/huggingface/safetensors): 8 bytes of header length, a JSON header, data.
// Reading maps the file and trusts nothing in it; writing goes to a temporary name, is synced, then renamed.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"

namespace mot {

struct TensorInfo {
  std::string name;
  std::string dtype;  // as in the file: "F32", "BF16", "I32", "U8", ... any dtype of the format
  std::vector<int64_t> shape;
  int64_t begin, end;  // bytes from the start of the data section
};

class SafetensorsFile {
 public:
  // Throws Error: ERR_FILE_OPEN, ERR_FILE_FORMAT with path and reason.
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  const std::vector<TensorInfo>& tensors() const;  // in order of offset
  const std::vector<std::pair<std::string, std::string>>& metadata() const;
  const TensorInfo* find(const std::string& name) const;
  const uint8_t* data(const TensorInfo& tensor) const;  // mapped; valid while the object lives
  // Copies bytes [begin, end) of a tensor by reading, not through the mapping: a file that another process has cut
  // short since it was opened is an Error("ERR_FILE_FORMAT") here, where the mapping would end the process by a signal.
  void read(const TensorInfo& tensor, int64_t begin, int64_t end, void* out) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct TensorToWrite {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  const void* data;
  int64_t bytes;
};

// Bits of one element of a dtype of the format ("F32", "BF16", ...); 0 for an unknown one.
int dtype_bits(const std::string& dtype);

// Written to a temporary name beside `path`, synced, renamed, the folder synced. On any failure the temporary is
// removed and Error("ERR_FILE_WRITE") says what failed (a full disk, a folder that cannot be written). Arguments that
// do not make a valid file (sizes that do not match, names that come twice or are not UTF-8) are Error("ERR_ARGUMENT").
// `stop`, where given, is looked at between pieces; once it is raised the temporary is removed and Error("ERR_ABORTED")
// thrown. Returns the CRC-32 (of zlib, gzip) of the whole file as 8 hexadecimal digits.
std::string write_safetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                              const std::vector<std::pair<std::string, std::string>>& metadata,
                              const std::atomic<bool>* stop = nullptr);

}  // namespace mot
