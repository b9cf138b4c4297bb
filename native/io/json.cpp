#include "io/json.h"

#include <cstdio>
#include <limits>
#include <unordered_set>

namespace mot {

namespace {

void append_utf8(std::string& out, uint32_t code) {
  auto byte = [&](uint32_t b) { out.push_back(static_cast<char>(b)); };
  if (code < 0x80) {
    byte(code);
  } else if (code < 0x800) {
    byte(0xC0 | code >> 6), byte(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    byte(0xE0 | code >> 12), byte(0x80 | (code >> 6 & 0x3F)), byte(0x80 | (code & 0x3F));
  } else {
    byte(0xF0 | code >> 18), byte(0x80 | (code >> 12 & 0x3F)), byte(0x80 | (code >> 6 & 0x3F)),
        byte(0x80 | (code & 0x3F));
  }
}

}  // namespace

bool is_utf8(std::string_view text) {
  auto at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  for (size_t i = 0; i < text.size();) {
    unsigned char lead = at(i);
    if (lead < 0x80) {
      i++;
      continue;
    }
    size_t more = lead >= 0xC2 && lead <= 0xDF   ? 1
                  : lead >= 0xE0 && lead <= 0xEF ? 2
                  : lead >= 0xF0 && lead <= 0xF4 ? 3
                                                 : 0;
    if (more == 0 || text.size() - i <= more) return false;
    for (size_t k = 1; k <= more; k++)
      if ((at(i + k) & 0xC0) != 0x80) return false;
    unsigned char second = at(i + 1);
    if (lead == 0xE0 && second < 0xA0) return false;  // not the shortest form
    if (lead == 0xED && second > 0x9F) return false;  // surrogates
    if (lead == 0xF0 && second < 0x90) return false;
    if (lead == 0xF4 && second > 0x8F) return false;  // over U+10FFFF
    i += more + 1;
  }
  return true;
}

std::string json_quote(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      out += escape;
    } else {
      out += c;
    }
  }
  return out += '"';
}

JsonReader::JsonReader(std::string_view text) : text_(text) {
  if (!is_utf8(text)) throw JsonError("the text is not UTF-8");
}

void JsonReader::fail(const std::string& reason) const {
  throw JsonError("at byte " + std::to_string(at_) + ": " + reason);
}

void JsonReader::skip_space() {
  while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
    at_++;
}

char JsonReader::peek() {
  skip_space();
  return at_ < text_.size() ? text_[at_] : '\0';  // a NUL byte is no JSON, so it reads as the end
}

void JsonReader::expect(char c, const char* what) {
  if (peek() != c) fail(std::string("expected ") + what);
  at_++;
}

void JsonReader::object(const std::function<void(const std::string&)>& member) {
  expect('{', "an object");
  if (peek() == '}') {
    at_++;
    return;
  }
  std::unordered_set<std::string> names;
  for (;;) {
    if (peek() != '"') fail("expected the name of a member in quotes");
    auto [name, is_new] = names.insert(string());
    if (!is_new) fail("the name \"" + *name + "\" comes twice in one object");
    expect(':', "':' after a member's name");
    member(*name);
    if (peek() != ',') break;
    at_++;
  }
  expect('}', "',' or '}'");
}

void JsonReader::array(const std::function<void()>& element) {
  expect('[', "an array");
  if (peek() == ']') {
    at_++;
    return;
  }
  for (;;) {
    element();
    if (peek() != ',') break;
    at_++;
  }
  expect(']', "',' or ']'");
}

uint32_t JsonReader::hex4() {
  uint32_t value = 0;
  for (int i = 0; i < 4; i++, at_++) {
    char c = at_ < text_.size() ? text_[at_] : '\0';
    uint32_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint32_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<uint32_t>(c - 'a' + 10);
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<uint32_t>(c - 'A' + 10);
    } else {
      fail("expected four hexadecimal digits after \\u");
    }
    value = value * 16 + digit;
  }
  return value;
}

// The reader stands behind a backslash.
void JsonReader::append_escape(std::string& out) {
  char c = at_ < text_.size() ? text_[at_++] : '\0';
  switch (c) {
    case '"':
    case '\\':
    case '/': out += c; return;
    case 'b': out += '\b'; return;
    case 'f': out += '\f'; return;
    case 'n': out += '\n'; return;
    case 'r': out += '\r'; return;
    case 't': out += '\t'; return;
    case 'u': break;
    default: fail("unknown escape in a string");
  }
  uint32_t code = hex4();
  if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_, 2) == "\\u") {
    at_ += 2;
    uint32_t low = hex4();
    if (low < 0xDC00 || low > 0xDFFF) fail("half of a surrogate pair in a string");
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  } else if (code >= 0xD800 && code <= 0xDFFF) {
    fail("half of a surrogate pair in a string");
  }
  append_utf8(out, code);
}

std::string JsonReader::string() {
  expect('"', "a string");
  std::string out;
  for (;;) {
    size_t plain = at_;
    while (plain < text_.size() && text_[plain] != '"' && text_[plain] != '\\' &&
           static_cast<unsigned char>(text_[plain]) >= 0x20)
      plain++;
    out.append(text_, at_, plain - at_);
    at_ = plain;
    if (at_ == text_.size()) fail("the string does not end");
    char c = text_[at_];
    if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
    at_++;
    if (c == '"') return out;
    append_escape(out);
  }
}

int64_t JsonReader::unsigned_integer() {
  char first = peek();
  if (first == '-') fail("expected a number of at least 0");
  if (first < '0' || first > '9') fail("expected a whole number");
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  int64_t value = 0;
  size_t begin = at_;
  for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; at_++) {
    int64_t digit = text_[at_] - '0';
    if (value > (kMax - digit) / 10) fail("a number over 2^63 - 1");
    value = value * 10 + digit;
  }
  if (first == '0' && at_ - begin > 1) fail("a number with leading zeros");
  if (at_ < text_.size() && (text_[at_] == '.' || text_[at_] == 'e' || text_[at_] == 'E'))
    fail("expected a whole number");
  return value;
}

void JsonReader::end() {
  skip_space();
  if (at_ != text_.size()) fail("text after the end");
}

}  // namespace mot
