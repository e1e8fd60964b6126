// readers.hpp: what a fuzzer and the corpus test do with some bytes: read them, and trap when a promise of the reader is broken.
// Each returns the reader's Status, whose message begins with kName.
#pragma once

#include <cstddef>
#include <cstdint>

#include "blockmoe/status.hpp"

namespace blockmoe::fuzz {

inline constexpr const char* kName = "INPUT";

Status read_jsonl(const std::uint8_t* bytes, std::size_t size);
Status read_safetensors(const std::uint8_t* bytes, std::size_t size);
Status read_definition(const std::uint8_t* bytes, std::size_t size);

}  // namespace blockmoe::fuzz
