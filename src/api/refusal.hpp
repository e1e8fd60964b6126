// refusal.hpp: the one place where messages about arguments are made.
//
//   <argument>: <what it is>, expected <what it must be> (<why>)
//
// Plain strings and no formatting library: what links blockmoe links nothing else for it, and numbers come out the same
// in every locale.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "blockmoe/status.hpp"
#include "blockmoe/tensor.hpp"

namespace blockmoe::api {

inline void append(std::string* text, std::string_view part) {
  text->append(part);
}
inline void append(std::string* text, std::integral auto number) {
  text->append(std::to_string(number));
}

/// The parts, texts and whole numbers, one after the other.
template <typename... Parts>
std::string join(const Parts&... parts) {
  std::string text;
  (append(&text, parts), ...);
  return text;
}

/// "[32, 4096, 7168]"
std::string text_of(std::span<const std::int64_t> values);
/// "0.05": the shortest that reads back as the number
std::string text_of(float value);
/// "float8_e4m3"
std::string text_of(DType dtype);
/// "cpu", "cuda:0"
std::string text_of(Device device);
/// "0x7f0012345678"
std::string text_of(const void* address);

Status refuse(std::string_view argument, std::string_view found, std::string_view expected,
              std::string_view because = {});

}  // namespace blockmoe::api
