#include "core/error.h"

#include <cstdarg>
#include <cstdio>

namespace mot {

Error errorf(const char* code, const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return Error(code, text);
}

}  // namespace mot
