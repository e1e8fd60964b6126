/* version.h: the version of these headers. CMakeLists.txt reads it from here. */
#ifndef BLOCKMOE_VERSION_H
#define BLOCKMOE_VERSION_H

/* NOLINTBEGIN(modernize-macro-to-enum): the preprocessor compares them */
#define BLOCKMOE_VERSION_MAJOR 0
#define BLOCKMOE_VERSION_MINOR 1
#define BLOCKMOE_VERSION_PATCH 0
/* NOLINTEND(modernize-macro-to-enum) */
#define BLOCKMOE_VERSION "0.1.0"

/* Grows with every release; what blockmoe_version() of the linked library is compared with. */
#define BLOCKMOE_VERSION_NUMBER (BLOCKMOE_VERSION_MAJOR * 10000 + BLOCKMOE_VERSION_MINOR * 100 + BLOCKMOE_VERSION_PATCH)

#endif
