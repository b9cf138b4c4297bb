// How an op of the CPU backend reports failure: `return fail("[op] expected ..., got ...");`
#pragma once

namespace mot {

// Keeps the message for cpu_last_error() of this thread and returns 1.
[[gnu::format(printf, 1, 2)]] int fail(const char* format, ...);

// The thread's last message, "" before the first.
const char* cpu_last_error();

}  // namespace mot
