#include "api/sized_struct.hpp"

#include <algorithm>
#include <span>

#include "api/refusal.hpp"
#include "blockmoe/version.h"

namespace blockmoe::api {
namespace {

constexpr std::uint32_t kLargest = 4096;  // no struct comes near it: a larger size is uninitialised memory

}  // namespace

Status check_struct(std::string_view argument, const void* bytes, std::uint32_t size, StructSizes sizes) {
  if (size < sizes.first || size > kLargest || size % sizes.alignment != 0) {
    return refuse(join(argument, ".struct_size"), join(size),
                  join(sizes.here, " or another version's size, as the struct's initialiser sets it"));
  }
  if (size <= sizes.here) return {};
  const auto unknown = std::span(static_cast<const unsigned char*>(bytes), size).subspan(sizes.here);
  if (std::all_of(unknown.begin(), unknown.end(), [](unsigned char byte) { return byte == 0; })) return {};
  return {StatusCode::unsupported,
          join(argument, ": has ", size, " bytes with a field set past byte ", sizes.here,
               ", expected zeros there (blockmoe " BLOCKMOE_VERSION " knows ", sizes.here, " bytes)")};
}

}  // namespace blockmoe::api
