// checked.h: device-side assertions, in builds with BLOCKMOE_CHECKED. Elsewhere they cost nothing.
//
//   BLOCKMOE_CHECK          says what does not hold, then stops the kernel
//   BLOCKMOE_CHECK_OR_TRAP  only stops it: where wgmma runs, since ptxas serialises wgmma and ignores setmaxnreg in a kernel
//                           that calls a function, and printf is one
#pragma once

#if defined(BLOCKMOE_CHECKED)
#include <cstdio>
#define BLOCKMOE_CHECK(condition)                                                                               \
  do {                                                                                                          \
    if (!(condition)) {                                                                                         \
      std::printf("%s:%d: block %u thread %u: %s does not hold\n", __FILE__, __LINE__, blockIdx.x, threadIdx.x, \
                  #condition);                                                                                  \
      __trap();                                                                                                 \
    }                                                                                                           \
  } while (false)
#define BLOCKMOE_CHECK_OR_TRAP(condition) \
  do {                                    \
    if (!(condition)) __trap();           \
  } while (false)
#else
#define BLOCKMOE_CHECK(condition) static_cast<void>(0)
#define BLOCKMOE_CHECK_OR_TRAP(condition) static_cast<void>(0)
#endif
