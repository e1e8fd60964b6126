// thread_board.hpp: the board of ranks that are threads of one process, for measurements and tests.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "blockmoe/expert_parallel.hpp"

namespace blockmoe::ep {

struct ThreadBoard {
  std::array<std::atomic<std::int64_t>, 64> calls{};  // of each rank

  EpBoard board() {
    return {this,
            [](void* self, std::int32_t rank, std::int64_t begun) {
              static_cast<ThreadBoard*>(self)->calls[static_cast<std::size_t>(rank)] = begun;
            },
            [](void* self, std::int32_t rank) -> std::int64_t {
              return static_cast<ThreadBoard*>(self)->calls[static_cast<std::size_t>(rank)];
            }};
  }
};

}  // namespace blockmoe::ep
