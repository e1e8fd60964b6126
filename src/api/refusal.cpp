#include "api/refusal.hpp"

#include <array>
#include <charconv>

namespace blockmoe::api {

std::string text_of(std::span<const std::int64_t> values) {
  std::string text = "[";
  for (const std::int64_t value : values) {
    if (text.size() > 1) text += ", ";
    append(&text, value);
  }
  return text + "]";
}

std::string text_of(float value) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  return {digits.data(), end.ptr};
}

std::string text_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "float32";
    case DType::bfloat16:
      return "bfloat16";
    case DType::float8_e4m3:
      return "float8_e4m3";
    case DType::int32:
      return "int32";
  }
  return join("number ", static_cast<std::int32_t>(dtype));
}

std::string text_of(Device device) {
  switch (device.type) {
    case DeviceType::cpu:
      return device.index == 0 ? "cpu" : join("cpu:", device.index);
    case DeviceType::cuda:
      return join("cuda:", device.index);
  }
  return join("of type ", static_cast<std::int32_t>(device.type));
}

std::string text_of(const void* address) {
  std::array<char, 16> digits{};
  const auto end =
      std::to_chars(digits.data(), digits.data() + digits.size(), reinterpret_cast<std::uintptr_t>(address), 16);
  return join("0x", std::string_view(digits.data(), static_cast<std::size_t>(end.ptr - digits.data())));
}

Status refuse(std::string_view argument, std::string_view found, std::string_view expected, std::string_view because) {
  std::string message = join(argument, ": ", found, ", expected ", expected);
  if (!because.empty()) message += join(" (", because, ")");
  return {StatusCode::invalid_argument, std::move(message)};
}

}  // namespace blockmoe::api
