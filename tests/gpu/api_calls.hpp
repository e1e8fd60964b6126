// api_calls.hpp: which runtime functions the library has called, counted where the linker redirected them (--wrap).
#pragma once

namespace blockmoe::test {

struct ApiCalls {
  long launches = 0;  // kernels
  long waits = 0;     // functions that wait for the device, or may
  long memory = 0;    // functions that allocate, free, copy or set memory
};

/// Since the process began, over all threads.
ApiCalls api_calls();

}  // namespace blockmoe::test
