// sized_struct.hpp: structs that begin with their own size, as the caller's version of the headers knows them.
//
// A caller of an older version passes a shorter struct: its missing fields get their defaults. A caller of a newer one
// passes a longer struct: bytes that this version does not know must be 0, which for every field added after version 0.1
// means "as before"; anything else would silently drop a wish.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "api/return_if_error.hpp"
#include "blockmoe/status.hpp"

namespace blockmoe::api {

/// sizeof(T) in version 0.1: no caller's version is shorter. Each struct specialises it once.
template <typename T>
inline constexpr std::uint32_t kFirstSize = 0;

struct StructSizes {
  std::uint32_t first;  // kFirstSize
  std::uint32_t here;   // sizeof in this version
  std::uint32_t alignment;
};

template <typename T>
constexpr StructSizes sizes_of() {
  static_assert(std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T>);
  static_assert(kFirstSize<T> > sizeof(std::uint32_t) && kFirstSize<T> <= sizeof(T));
  return {kFirstSize<T>, sizeof(T), alignof(T)};
}

/// invalid_argument where `size` can be no version's; unsupported where a later version's fields are set in `bytes`.
Status check_struct(std::string_view argument, const void* bytes, std::uint32_t size, StructSizes sizes);

/// Fills *to, which holds the defaults, from what the caller's version has.
template <typename T>
Status read_struct(std::string_view argument, const T& from, T* to) {
  const std::uint32_t size = from.struct_size;
  if (size != sizeof(T)) {
    BLOCKMOE_RETURN_IF_ERROR(check_struct(argument, &from, size, sizes_of<T>()));
  }
  std::memcpy(static_cast<void*>(to), &from, size < sizeof(T) ? size : sizeof(T));
  to->struct_size = sizeof(T);
  return {};
}

/// Fills what the caller's version has of *to. Bytes beyond this version keep what the caller's initialiser wrote.
template <typename T>
Status write_struct(std::string_view argument, const T& from, T* to) {
  const std::uint32_t size = to->struct_size;
  if (size != sizeof(T)) {
    BLOCKMOE_RETURN_IF_ERROR(check_struct(argument, to, size, sizes_of<T>()));
  }
  std::memcpy(static_cast<void*>(to), &from, size < sizeof(T) ? size : sizeof(T));
  to->struct_size = size;
  return {};
}

}  // namespace blockmoe::api
