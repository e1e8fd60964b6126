#include "readers.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static_cast<void>(blockmoe::fuzz::read_safetensors(bytes, size));
  return 0;
}
