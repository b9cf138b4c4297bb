// A strict pull reader for JSON (RFC 8259). The caller says what must come next; anything else is an error, so a
// hostile text can neither nest deeper than the caller's own calls nor take more memory than the values that are kept.
#pragma once
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace mot {

struct JsonError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Every member throws JsonError, which names the byte and what was expected there.
class JsonReader {
 public:
  // The text is borrowed and must be UTF-8; so must every string after its escapes are resolved.
  explicit JsonReader(std::string_view text);

  // Calls member(name) for each member with the reader at its value, which member must read. A name that comes twice in
  // one object is an error.
  void object(const std::function<void(const std::string& name)>& member);
  // Calls element() for each element with the reader at it.
  void array(const std::function<void()>& element);
  std::string string();
  // A whole number without sign, fraction or exponent, at most 2^63 - 1.
  int64_t unsigned_integer();
  // Nothing but white space may be left.
  void end();

  [[noreturn]] void fail(const std::string& reason) const;

 private:
  void skip_space();
  char peek();
  void expect(char c, const char* what);
  uint32_t hex4();
  void append_escape(std::string& out);

  std::string_view text_;
  size_t at_ = 0;
};

// True when every byte belongs to a well-formed UTF-8 sequence (shortest form, no surrogates, at most U+10FFFF).
bool is_utf8(std::string_view text);

// The text as a JSON string, quotes included; text must be UTF-8.
std::string json_quote(std::string_view text);

}  // namespace mot
