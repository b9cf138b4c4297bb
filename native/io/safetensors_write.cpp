#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <unordered_set>

#include "core/error.h"
#include "io/crc32.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace mot {

namespace {

std::string header_of(const std::vector<TensorToWrite>& tensors,
                      const std::vector<std::pair<std::string, std::string>>& metadata) {
  auto check_name = [](std::unordered_set<std::string>& names, const std::string& name, const char* what) {
    if (!is_utf8(name)) throw Error("ERR_ARGUMENT", std::string("[safetensors] a ") + what + " is not UTF-8.");
    if (!names.insert(name).second)
      throw Error("ERR_ARGUMENT", std::string("[safetensors] the ") + what + " \"" + name + "\" comes twice.");
  };
  std::unordered_set<std::string> names{"__metadata__"}, keys;
  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (size_t i = 0; i < metadata.size(); i++) {
      const auto& [key, value] = metadata[i];
      check_name(keys, key, "metadata key");
      if (!is_utf8(value)) throw Error("ERR_ARGUMENT", "[safetensors] the metadata \"" + key + "\" is not UTF-8.");
      header += (i ? "," : "") + json_quote(key) + ":" + json_quote(value);
    }
    header += "}";
  }
  int64_t at = 0;
  for (const TensorToWrite& tensor : tensors) {
    check_name(names, tensor.name, "tensor name");
    int64_t bits = dtype_bits(tensor.dtype);
    if (bits == 0)
      throw Error("ERR_ARGUMENT",
                  "[safetensors] tensor \"" + tensor.name + "\": unknown dtype \"" + tensor.dtype + "\".");
    std::string shape;
    for (int64_t n : tensor.shape) {
      if (n < 0 || __builtin_mul_overflow(bits, n, &bits))
        throw Error("ERR_ARGUMENT", "[safetensors] tensor \"" + tensor.name + "\": its shape is not possible.");
      shape += (shape.empty() ? "" : ",") + std::to_string(n);
    }
    if (bits % 8 != 0 || bits / 8 != tensor.bytes)
      throw Error("ERR_ARGUMENT", "[safetensors] tensor \"" + tensor.name + "\": [" + shape + "] of " + tensor.dtype +
                                      " does not take the " + std::to_string(tensor.bytes) + " bytes given.");
    header += (header.size() > 1 ? "," : "") + json_quote(tensor.name) + ":{\"dtype\":\"" + tensor.dtype +
              "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(at) + "," +
              std::to_string(at + tensor.bytes) + "]}";
    at += tensor.bytes;
  }
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');  // data begins at a multiple of 8
  return header;
}

// A file under a temporary name that becomes `path` only by commit().
class AtomicFile {
 public:
  AtomicFile(const std::string& path, const std::atomic<bool>* stop) : path_(path), stop_(stop) {
    // Names differ by process and by time; a name that is taken (other thread, left by a crash) is passed over.
    auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    for (int attempt = 0; fd_ < 0; attempt++) {
      temporary_ = path + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(now + attempt);
      fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (fd_ < 0 && errno == EINTR) continue;
      if (fd_ < 0 && (errno != EEXIST || attempt == 100)) {
        int error = errno;
        temporary_.clear();
        fail(error);
      }
    }
  }
  ~AtomicFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, int64_t bytes) {
    constexpr int64_t kPiece = int64_t{1} << 20;  // still in the cache when the checksum has read it
    auto p = static_cast<const char*>(data);
    while (bytes > 0) {
      if (stop_ && *stop_) throw Error("ERR_ABORTED", "writing " + path_ + " was aborted.");
      int64_t piece = std::min(bytes, kPiece);
      crc_.add(p, static_cast<size_t>(piece));
      for (int64_t done = 0; done < piece;) {
        ssize_t n = ::write(fd_, p + done, static_cast<size_t>(piece - done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail(errno);
        done += n;
      }
      p += piece;
      bytes -= piece;
    }
  }

  std::string commit() {
    if (::fsync(fd_) != 0) fail(errno);
    int fd = fd_;
    fd_ = -1;
    if (::close(fd) != 0 && errno != EINTR) fail(errno);
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(errno);
    temporary_.clear();
    sync_folder();
    char hex[9];
    std::snprintf(hex, sizeof hex, "%08x", crc_.value());
    return hex;
  }

 private:
  // Makes the new name durable. Some file systems cannot sync a folder (EINVAL); the file itself is whole either way.
  void sync_folder() {
    size_t slash = path_.rfind('/');
    std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
    int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;  // a folder may be writable without being readable
    int error = ::fsync(fd) == 0 ? 0 : errno;
    ::close(fd);
    if (error != 0 && error != EINVAL && error != ENOTSUP) fail(error);
  }

  [[noreturn]] void fail(int error) const {
    const char* remedy = "";
    switch (error) {
      case ENOSPC:
      case EDQUOT: remedy = "; free some space, or choose a path on another disk"; break;
      case EACCES:
      case EPERM:
      case EROFS: remedy = "; choose a folder that may be written, or change its permissions"; break;
      case ENOENT:
      case ENOTDIR: remedy = "; make the folder first"; break;
      case EISDIR: remedy = "; choose the path of a file"; break;
      case EFBIG: remedy = "; raise the limit on file sizes (ulimit -f)"; break;
    }
    throw Error("ERR_FILE_WRITE", "cannot write " + path_ + ": " + std::strerror(error) + remedy + ".");
  }

  std::string path_, temporary_;
  const std::atomic<bool>* stop_;
  int fd_ = -1;
  Crc32 crc_;
};

}  // namespace

std::string write_safetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                              const std::vector<std::pair<std::string, std::string>>& metadata,
                              const std::atomic<bool>* stop) {
  std::string header = header_of(tensors, metadata);
  uint8_t prefix[8];
  for (size_t i = 0; i < 8; i++) prefix[i] = static_cast<uint8_t>(header.size() >> (8 * i));
  AtomicFile file(path, stop);
  file.write(prefix, 8);
  file.write(header.data(), static_cast<int64_t>(header.size()));
  for (const TensorToWrite& tensor : tensors) file.write(tensor.data, tensor.bytes);
  return file.commit();
}

}  // namespace mot
