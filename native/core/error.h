// The one exception type of the native side. It never crosses the op table (see ops/op_table.h) or the addon's
// boundary; there it becomes a status with a message, or a MotError with the same code.
#pragma once
#include <stdexcept>
#include <string>

namespace mot {

// Codes are stable strings, listed with their meaning in lib/errors.ts.
class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  const char* code() const { return code_; }

 private:
  const char* code_;  // always a string literal
};

// printf-style message: throw errorf("ERR_SHAPE", "[rms_norm] expected ..., got %d", n);
[[gnu::format(printf, 2, 3)]] Error errorf(const char* code, const char* format, ...);

}  // namespace mot
