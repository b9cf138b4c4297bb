// The safetensors reader and writer: round trips, every kind of damage, failures of the system.
#include "io/safetensors.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/error.h"
#include "io/crc32.h"
#include "io/json.h"

namespace mot {
namespace {

namespace fs = std::filesystem;

class Safetensors : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "mot-safetensors-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  std::string write_raw(const std::string& bytes) const {
    std::ofstream(path("raw"), std::ios::binary) << bytes;
    return path("raw");
  }

  // A file of this header and this many bytes of data.
  std::string write_file(const std::string& header, size_t data_bytes) const {
    std::string bytes(8, '\0');
    uint64_t n = header.size();
    std::memcpy(bytes.data(), &n, 8);
    return write_raw(bytes + header + std::string(data_bytes, 'x'));
  }

  // Opening must fail with this code, and the message must name the path and hold `reason`.
  static void expect_refused(const std::string& file, const std::string& code, const std::string& reason) {
    try {
      SafetensorsFile opened(file);
      ADD_FAILURE() << "opened a file that should be refused: " << reason;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code);
      EXPECT_NE(std::string(error.what()).find(file), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    }
  }

  void expect_bad_header(const std::string& header, size_t data_bytes, const std::string& reason) const {
    expect_refused(write_file(header, data_bytes), "ERR_FILE_FORMAT", reason);
  }

  size_t files_in_folder() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  std::string folder_;
};

TEST_F(Safetensors, RoundTripKeepsNamesShapesBytesAndMetadata) {
  std::vector<float> a{1.5f, -2.0f, 3.25f, 0.0f, 1e-30f, 7.0f};
  std::vector<int64_t> b{1, -1};
  std::vector<uint8_t> c{9};
  std::string crc = write_safetensors(path("a.safetensors"),
                                      {{"a", "F32", {2, 3}, a.data(), 24},
                                       {"b \"quoted\"\n\xC3\xA9", "I64", {2}, b.data(), 16},
                                       {"empty", "BF16", {0, 4}, nullptr, 0},
                                       {"scalar", "U8", {}, c.data(), 1}},
                                      {{"config", "{\"x\": 1}"}, {"emoji", "\xF0\x9F\x8D\x8B"}});
  SafetensorsFile file(path("a.safetensors"));
  ASSERT_EQ(file.tensors().size(), 4u);
  const TensorInfo* info = file.find("a");
  ASSERT_NE(info, nullptr);
  EXPECT_EQ(info->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(file.data(*info), a.data(), 24), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.data(*info)) % 8, 0u) << "data must be aligned";
  float middle[2];
  file.read(*info, 8, 16, middle);
  EXPECT_EQ(middle[0], 3.25f);
  EXPECT_THROW(file.read(*info, 8, 28, middle), Error);
  EXPECT_EQ(std::memcmp(file.data(*file.find("b \"quoted\"\n\xC3\xA9")), b.data(), 16), 0);
  EXPECT_EQ(file.find("scalar")->shape.size(), 0u);
  EXPECT_EQ(file.find("empty")->begin, file.find("empty")->end);
  EXPECT_EQ(file.find("none"), nullptr);
  ASSERT_EQ(file.metadata().size(), 2u);
  EXPECT_EQ(file.metadata()[0], (std::pair<std::string, std::string>("config", "{\"x\": 1}")));
  EXPECT_EQ(file.metadata()[1].second, "\xF0\x9F\x8D\x8B");
  EXPECT_EQ(files_in_folder(), 1u) << "the temporary file must be gone";

  std::ifstream in(path("a.safetensors"), std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  Crc32 whole;
  whole.add(bytes.data(), bytes.size());
  char hex[9];
  std::snprintf(hex, sizeof hex, "%08x", whole.value());
  EXPECT_EQ(crc, hex);
}

TEST(Crc32, MatchesTheCheckValueOfTheStandard) {
  Crc32 crc;
  crc.add("12345", 5);
  crc.add("6789", 4);
  EXPECT_EQ(crc.value(), 0xCBF43926u);
  std::string text = "The quick brown fox jumps over the lazy dog";
  Crc32 longer;
  longer.add(text.data(), text.size());
  EXPECT_EQ(longer.value(), 0x414FA339u);
}

TEST(Crc32, AnyLengthAtAnyPlaceInAnyPieces) {
  std::vector<uint8_t> bytes(1000);
  for (size_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<uint8_t>(i * i * 31 + i);
  for (size_t begin = 0; begin < 20; begin++) {
    uint32_t expected = 0xFFFFFFFFu;  // bit by bit
    for (size_t end = begin; end < bytes.size(); end++) {
      Crc32 whole, pieces;
      whole.add(&bytes[begin], end - begin);
      pieces.add(&bytes[begin], (end - begin) / 3);
      pieces.add(&bytes[begin] + (end - begin) / 3, end - begin - (end - begin) / 3);
      ASSERT_EQ(whole.value(), ~expected) << begin << " " << end;
      ASSERT_EQ(pieces.value(), ~expected) << begin << " " << end;
      expected ^= bytes[end];
      for (int bit = 0; bit < 8; bit++) expected = expected & 1 ? 0xEDB88320u ^ expected >> 1 : expected >> 1;
    }
  }
}

TEST_F(Safetensors, RefusesFilesThatAreNotThere) {
  expect_refused(path("none"), "ERR_FILE_OPEN", "No such file");
  expect_refused(folder_, "ERR_FILE_OPEN", "not a regular file");
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  expect_refused(path("pipe"), "ERR_FILE_OPEN", "not a regular file");
}

TEST_F(Safetensors, RefusesTruncatedAndForeignFiles) {
  expect_refused(write_raw(""), "ERR_FILE_FORMAT", "0 bytes");
  expect_refused(write_raw("1234567"), "ERR_FILE_FORMAT", "7 bytes");
  expect_refused(write_raw("\x89PNG\r\n\x1a\nabcdefgh"), "ERR_FILE_FORMAT", "its header should have");
  expect_refused(write_raw(std::string(8, '\xff') + "{}"), "ERR_FILE_FORMAT", "its header should have");
  expect_refused(write_raw(std::string("\x03\0\0\0\0\0\0\0{}", 10)), "ERR_FILE_FORMAT", "its header should have 3");
  expect_bad_header("", 0, "expected an object");
  expect_bad_header("[]", 0, "expected an object");
  expect_bad_header(" {}", 0, "expected an object");
  expect_bad_header("{} x", 0, "text after the end");
  expect_bad_header("{}", 1, "belong to no tensor");
  expect_bad_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 3, "past the end");
}

TEST_F(Safetensors, RefusesAHeaderOverTheLimit) {
  std::string file = write_raw(std::string("\x01\xe1\xf5\x05\0\0\0\0", 8));  // 100,000,001
  fs::resize_file(file, 100'000'100);                                        // sparse
  expect_refused(file, "ERR_FILE_FORMAT", "over 100 MB");
}

TEST_F(Safetensors, RefusesImpossibleEntries) {
  auto entry = [](const std::string& body) { return "{\"a\":{" + body + "}}"; };
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":[4]"), 4, "needs dtype, shape and data_offsets");
  expect_bad_header(entry("\"dtype\":\"U8\",\"data_offsets\":[0,4]"), 4, "needs dtype, shape and data_offsets");
  expect_bad_header(entry("\"shape\":[4],\"data_offsets\":[0,4]"), 4, "needs dtype, shape and data_offsets");
  expect_bad_header(entry("\"dtype\":\"X8\",\"shape\":[4],\"data_offsets\":[0,4]"), 4, "unknown dtype");
  expect_bad_header(entry("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]"), 1, "whole bytes");
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"x\":1"), 4, "unknown key");
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":[4],\"shape\":[4],\"data_offsets\":[0,4]"), 4, "comes twice");
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":[-4],\"data_offsets\":[0,4]"), 4, "at least 0");
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":[4.0],\"data_offsets\":[0,4]"), 4, "whole number");
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":[4e0],\"data_offsets\":[0,4]"), 4, "whole number");
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":[04],\"data_offsets\":[0,4]"), 4, "leading zeros");
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":4,\"data_offsets\":[0,4]"), 4, "expected an array");
  expect_bad_header(entry("\"dtype\":8,\"shape\":[4],\"data_offsets\":[0,4]"), 4, "expected a string");
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0]"), 4, "two numbers");
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,4]"), 4, "two numbers");
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]"), 4, "end before they begin");
  expect_bad_header(entry("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]"), 4, "need 8");
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":[9223372036854775807,2],\"data_offsets\":[0,4]"), 4, "too large");
  expect_bad_header(entry("\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]"), 0, "too large");
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":[9223372036854775808],\"data_offsets\":[0,4]"), 4, "2^63");
  std::string shape = "1";
  for (int i = 0; i < 40; i++) shape += ",1";
  expect_bad_header(entry("\"dtype\":\"U8\",\"shape\":[" + shape + "],\"data_offsets\":[0,1]"), 1, "dimensions");
}

TEST_F(Safetensors, RefusesOverlapsHolesAndDuplicates) {
  auto two = [](const char* name, const char* a, const char* b) {
    return std::string("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":") + a + "},\"" + name +
           "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + b + "}}";
  };
  SafetensorsFile good(write_file(two("b", "[4,8]", "[0,4]"), 8));
  EXPECT_EQ(good.tensors()[0].name, "b") << "tensors come in order of offset";
  expect_bad_header(two("b", "[0,4]", "[0,4]"), 4, "overlaps");
  expect_bad_header(two("b", "[0,4]", "[2,6]"), 6, "overlaps");
  expect_bad_header(two("b", "[0,4]", "[5,9]"), 9, "hole");
  expect_bad_header(two("b", "[1,5]", "[5,9]"), 9, "hole");
  expect_bad_header(two("b", "[0,4]", "[4,8]"), 9, "belong to no tensor");
  expect_bad_header(two("a", "[0,4]", "[4,8]"), 8, "comes twice");
  expect_bad_header(two("\\u0061", "[0,4]", "[4,8]"), 8, "comes twice");
  expect_bad_header("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "comes twice");
  expect_bad_header("{\"__metadata__\":{\"k\":1}}", 0, "expected a string");
}

TEST_F(Safetensors, RefusesBadText) {
  auto name = [](const std::string& n) {
    return "{\"" + n + "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}";
  };
  expect_bad_header(name("\xff"), 0, "not UTF-8");
  expect_bad_header(name("\xC0\x80"), 0, "not UTF-8");
  expect_bad_header(name("\xED\xA0\x80"), 0, "not UTF-8");
  expect_bad_header(name("\xF4\x90\x80\x80"), 0, "not UTF-8");
  expect_bad_header(name("\xE2\x82"), 0, "not UTF-8");
  expect_bad_header(name("\\ud800"), 0, "surrogate");
  expect_bad_header(name("\\udc00\\ud800"), 0, "surrogate");
  expect_bad_header(name("\\u12g4"), 0, "hexadecimal");
  expect_bad_header(name("\\x"), 0, "escape");
  expect_bad_header(name("a\nb"), 0, "control character");
  expect_bad_header("{\"a", 0, "does not end");
  expect_bad_header("{\"a\"}", 0, "':'");
  expect_bad_header("{\"a\":{}", 0, "needs dtype");
  expect_bad_header("{" + std::string(1'000'000, '{'), 0, "name of a member");
  expect_bad_header("{\"a\":" + std::string(1'000'000, '['), 0, "expected an object");
  EXPECT_EQ(SafetensorsFile(write_file(name("\\ud83c\\udf4b"), 0)).tensors()[0].name, "\xF0\x9F\x8D\x8B");
}

TEST_F(Safetensors, EveryTruncationOfAValidFileIsRefused) {
  float values[4] = {1, 2, 3, 4};
  write_safetensors(path("whole"), {{"a", "F32", {2}, values, 8}, {"b", "F32", {2}, values + 2, 8}}, {{"k", "v"}});
  std::ifstream in(path("whole"), std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  for (size_t n = 0; n < bytes.size(); n++)
    EXPECT_THROW(SafetensorsFile(write_raw(bytes.substr(0, n))), Error) << n << " bytes";
}

TEST_F(Safetensors, AFileCutShortAfterOpeningIsAnErrorOnRead) {
  std::vector<float> values(100'000, 1.0f);
  write_safetensors(path("a"), {{"a", "F32", {100'000}, values.data(), 400'000}}, {});
  SafetensorsFile file(path("a"));
  fs::resize_file(path("a"), 1000);
  EXPECT_THROW(file.read(file.tensors()[0], 0, 400'000, values.data()), Error);
}

TEST_F(Safetensors, AWriteThatIsStoppedLeavesTheOldFileAndNoTemporary) {
  std::vector<float> values(1'000'000, 1.0f);
  const std::vector<TensorToWrite> tensors{{"a", "F32", {1'000'000}, values.data(), 4'000'000}};
  std::atomic<bool> stop{false};
  const std::string crc = write_safetensors(path("a"), tensors, {}, &stop);
  EXPECT_EQ(crc, write_safetensors(path("b"), tensors, {}));
  values[0] = 2;
  stop = true;
  try {
    write_safetensors(path("a"), tensors, {}, &stop);
    ADD_FAILURE() << "written";
  } catch (const Error& error) {
    EXPECT_STREQ(error.code(), "ERR_ABORTED");
  }
  SafetensorsFile file(path("a"));
  float first = 0;
  file.read(file.tensors()[0], 0, 4, &first);
  EXPECT_EQ(first, 1.0f);
  EXPECT_EQ(std::distance(fs::directory_iterator(fs::path(path("a")).parent_path()), {}), 2);
}

// Writing must fail with ERR_FILE_WRITE, say `remedy`, and leave nothing behind.
void expect_write_fails(const std::string& file, const std::string& remedy) {
  std::vector<float> values(100'000, 1.0f);
  try {
    write_safetensors(file, {{"a", "F32", {100'000}, values.data(), 400'000}}, {});
    ADD_FAILURE() << "written: " << file;
  } catch (const Error& error) {
    EXPECT_STREQ(error.code(), "ERR_FILE_WRITE");
    EXPECT_NE(std::string(error.what()).find(remedy), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(file), std::string::npos) << error.what();
  }
}

TEST_F(Safetensors, WriteFailuresLeaveTheOldFileAndNoTemporary) {
  expect_write_fails(path("no/such/folder"), "make the folder first");
  fs::create_directory(path("folder"));
  expect_write_fails(path("folder"), "");
  EXPECT_EQ(files_in_folder(), 1u);

  float one = 1;
  write_safetensors(path("a"), {{"a", "F32", {1}, &one, 4}}, {});
  rlimit old;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  rlimit small{1000, old.rlim_max};
  auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_write_fails(path("a"), "ulimit");
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(files_in_folder(), 2u);
  EXPECT_EQ(SafetensorsFile(path("a")).tensors()[0].shape[0], 1) << "the file of before must be whole";
}

TEST_F(Safetensors, AFolderWithoutPermissionIsAnError) {
  if (geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  chmod(folder_.c_str(), 0500);
  expect_write_fails(path("a"), "permissions");
  chmod(folder_.c_str(), 0700);
}

TEST_F(Safetensors, RefusesToWriteWhatWouldNotBeAValidFile) {
  float v[2] = {1, 2};
  auto refuses = [&](const std::vector<TensorToWrite>& tensors,
                     const std::vector<std::pair<std::string, std::string>>& metadata) {
    try {
      write_safetensors(path("x"), tensors, metadata);
      ADD_FAILURE() << "written";
    } catch (const Error& error) {
      EXPECT_STREQ(error.code(), "ERR_ARGUMENT") << error.what();
    }
    EXPECT_EQ(files_in_folder(), 0u);
  };
  refuses({{"a", "F32", {1}, v, 4}, {"a", "F32", {1}, v, 4}}, {});
  refuses({{"__metadata__", "F32", {1}, v, 4}}, {});
  refuses({{"\xff", "F32", {1}, v, 4}}, {});
  refuses({{"a", "F99", {1}, v, 4}}, {});
  refuses({{"a", "F32", {3}, v, 8}}, {});
  refuses({{"a", "F32", {-1}, v, 8}}, {});
  refuses({{"a", "F32", {1}, v, 4}}, {{"k", "\xff"}});
  refuses({{"a", "F32", {1}, v, 4}}, {{"k", "1"}, {"k", "2"}});
}

}  // namespace
}  // namespace mot
