// checked.h: device-side assertions, in builds with BLOCKMOE_CHECKED. Elsewhere they cost nothing.
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
#else
#define BLOCKMOE_CHECK(condition) static_cast<void>(0)
#endif
