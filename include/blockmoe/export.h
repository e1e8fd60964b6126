/* export.h: marks what a shared build of the library exports; the build hides everything else. C11 and C++17. */
#ifndef BLOCKMOE_EXPORT_H
#define BLOCKMOE_EXPORT_H

#define BLOCKMOE_API __attribute__((visibility("default")))

#endif
