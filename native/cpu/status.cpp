#include "cpu/status.h"

#include <cstdarg>
#include <cstdio>

namespace mot {

namespace {
thread_local char last_message[512];
}

int fail(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::vsnprintf(last_message, sizeof last_message, format, args);
  va_end(args);
  return 1;
}

const char* cpu_last_error() { return last_message; }

}  // namespace mot
