/* version.h: the library's version. CMakeLists.txt reads it from here. */
#ifndef BLOCKMOE_VERSION_H
#define BLOCKMOE_VERSION_H

#define BLOCKMOE_VERSION_MAJOR 0
#define BLOCKMOE_VERSION_MINOR 1
#define BLOCKMOE_VERSION_PATCH 0
#define BLOCKMOE_VERSION "0.1.0"

#endif
