#include "io/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "core/error.h"
#include "io/json.h"

namespace mot {

namespace {

constexpr int64_t kMaxHeader = 100'000'000;  // as in the format's own library
constexpr size_t kMaxRank = 32;

[[noreturn]] void fail_format(const std::string& path, const std::string& reason) {
  throw Error("ERR_FILE_FORMAT", path + " is not a valid safetensors file: " + reason +
                                     "; copy or make the file again, or give the path of another.");
}

// Elements of a shape; -1 when the product does not fit.
int64_t element_count(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (int64_t n : shape)
    if (__builtin_mul_overflow(count, n, &count)) return -1;
  return count;
}

// One entry of the header; whatever is wrong with it alone is thrown as JsonError.
TensorInfo read_entry(JsonReader& json, const std::string& name) {
  TensorInfo tensor{name, "", {}, -1, -1};
  bool has_shape = false;
  json.object([&](const std::string& key) {
    if (key == "dtype") {
      tensor.dtype = json.string();
    } else if (key == "shape") {
      has_shape = true;
      json.array([&] {
        if (tensor.shape.size() == kMaxRank) json.fail("a shape of more than 32 dimensions");
        tensor.shape.push_back(json.unsigned_integer());
      });
    } else if (key == "data_offsets") {
      int count = 0;
      json.array([&] {
        int64_t offset = json.unsigned_integer();
        if (count == 0) tensor.begin = offset;
        if (count == 1) tensor.end = offset;
        count++;
      });
      if (count != 2) json.fail("data_offsets must hold two numbers");
    } else {
      json.fail("unknown key \"" + key + "\" in a tensor's entry");
    }
  });
  const std::string who = "tensor \"" + name + "\": ";
  if (tensor.dtype.empty() || !has_shape || tensor.end < 0) json.fail(who + "needs dtype, shape and data_offsets");
  const int bits = dtype_bits(tensor.dtype);
  if (bits == 0) json.fail(who + "unknown dtype \"" + tensor.dtype + "\"");
  int64_t count = element_count(tensor.shape), total_bits = 0;
  if (count < 0 || __builtin_mul_overflow(count, int64_t{bits}, &total_bits)) json.fail(who + "its shape is too large");
  if (total_bits % 8 != 0) json.fail(who + "its elements do not fill whole bytes");
  if (tensor.begin > tensor.end) json.fail(who + "its data_offsets end before they begin");
  if (tensor.end - tensor.begin != total_bits / 8)
    json.fail(who + "its data_offsets span " + std::to_string(tensor.end - tensor.begin) +
              " bytes, but its shape and dtype need " + std::to_string(total_bits / 8));
  return tensor;
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

int dtype_bits(const std::string& dtype) {
  static constexpr struct {
    const char* name;
    int bits;
  } kTypes[] = {{"F32", 32},    {"BF16", 16},   {"I32", 32},    {"I64", 64},    {"U8", 8},
                {"F64", 64},    {"F16", 16},    {"BOOL", 8},    {"I8", 8},      {"I16", 16},
                {"U16", 16},    {"U32", 32},    {"U64", 64},    {"F8_E5M2", 8}, {"F8_E4M3", 8},
                {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},      {"C64", 64}};
  for (const auto& type : kTypes)
    if (dtype == type.name) return type.bits;
  return 0;
}

struct SafetensorsFile::Impl {
  explicit Impl(const std::string& file) : path(file), fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~Impl() {
    if (map) munmap(const_cast<uint8_t*>(map), static_cast<size_t>(size));
  }

  void read_at(int64_t offset, int64_t bytes, void* out) const;
  void read_header(const std::string& header, int64_t data_bytes);

  std::string path;
  Descriptor fd;
  int64_t size = 0;
  int64_t data_offset = 0;
  const uint8_t* map = nullptr;
  std::vector<TensorInfo> tensors;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::unordered_map<std::string, size_t> index;
};

void SafetensorsFile::Impl::read_at(int64_t offset, int64_t bytes, void* out) const {
  for (int64_t done = 0; done < bytes;) {
    ssize_t n = ::pread(fd.get(), static_cast<char*>(out) + done, static_cast<size_t>(bytes - done), offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error("ERR_FILE_OPEN", "cannot read " + path + ": " + std::strerror(errno) + ".");
    if (n == 0) fail_format(path, "it was cut short while it was read");
    done += n;
  }
}

void SafetensorsFile::Impl::read_header(const std::string& header, int64_t data_bytes) {
  try {
    JsonReader json(header);
    if (header.empty() || header[0] != '{') json.fail("expected an object");
    json.object([&](const std::string& name) {
      if (name == "__metadata__")
        json.object([&](const std::string& key) { metadata.emplace_back(key, json.string()); });
      else
        tensors.push_back(read_entry(json, name));
    });
    json.end();
  } catch (const JsonError& error) {
    fail_format(path, std::string("in its header, ") + error.what());
  }
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  // The format has no holes: sorted by offset, each tensor begins where the one before it ends.
  int64_t at = 0;
  for (const TensorInfo& tensor : tensors) {
    const std::string who = "the data of tensor \"" + tensor.name + "\" ";
    if (tensor.end > data_bytes) fail_format(path, who + "goes past the end of the file");
    if (tensor.begin < at) fail_format(path, who + "overlaps that of another tensor");
    if (tensor.begin > at) fail_format(path, "there is a hole before " + who);
    at = tensor.end;
  }
  if (at != data_bytes) fail_format(path, std::to_string(data_bytes - at) + " bytes at its end belong to no tensor");
  for (size_t i = 0; i < tensors.size(); i++) index.emplace(tensors[i].name, i);
}

SafetensorsFile::SafetensorsFile(const std::string& path) : impl_(std::make_unique<Impl>(path)) {
  Impl& f = *impl_;
  auto open_error = [&](const char* reason) {
    return Error("ERR_FILE_OPEN", "cannot open " + path + ": " + reason + ".");
  };
  if (f.fd.get() < 0) throw open_error(std::strerror(errno));
  struct stat info;
  if (fstat(f.fd.get(), &info) != 0) throw open_error(std::strerror(errno));
  if (!S_ISREG(info.st_mode)) throw open_error("it is not a regular file");
  f.size = info.st_size;
  if (f.size < 8) fail_format(path, "it has " + std::to_string(f.size) + " bytes, less than the length of a header");

  uint8_t prefix[8];
  f.read_at(0, 8, prefix);
  uint64_t length = 0;
  for (int i = 7; i >= 0; i--) length = length << 8 | prefix[i];
  if (length > static_cast<uint64_t>(f.size - 8))
    fail_format(path, "its header should have " + std::to_string(length) + " bytes, but the file has only " +
                          std::to_string(f.size) + " (truncated, or another format)");
  if (length > static_cast<uint64_t>(kMaxHeader)) fail_format(path, "its header is over 100 MB");
  std::string header(static_cast<size_t>(length), '\0');
  f.read_at(8, static_cast<int64_t>(length), header.data());
  f.data_offset = 8 + static_cast<int64_t>(length);
  f.read_header(header, f.size - f.data_offset);

  void* map = mmap(nullptr, static_cast<size_t>(f.size), PROT_READ, MAP_SHARED, f.fd.get(), 0);
  if (map == MAP_FAILED) throw open_error(std::strerror(errno));
  f.map = static_cast<const uint8_t*>(map);
}

SafetensorsFile::~SafetensorsFile() = default;

const std::vector<TensorInfo>& SafetensorsFile::tensors() const { return impl_->tensors; }

const std::vector<std::pair<std::string, std::string>>& SafetensorsFile::metadata() const { return impl_->metadata; }

const TensorInfo* SafetensorsFile::find(const std::string& name) const {
  auto it = impl_->index.find(name);
  return it == impl_->index.end() ? nullptr : &impl_->tensors[it->second];
}

const uint8_t* SafetensorsFile::data(const TensorInfo& tensor) const {
  return impl_->map + impl_->data_offset + tensor.begin;
}

void SafetensorsFile::read(const TensorInfo& tensor, int64_t begin, int64_t end, void* out) const {
  if (begin < 0 || begin > end || end > tensor.end - tensor.begin)
    throw errorf("ERR_ARGUMENT", "[safetensors] bytes %lld to %lld are not a part of the tensor's %lld",
                 static_cast<long long>(begin), static_cast<long long>(end),
                 static_cast<long long>(tensor.end - tensor.begin));
  impl_->read_at(impl_->data_offset + tensor.begin + begin, end - begin, out);
}

}  // namespace mot
