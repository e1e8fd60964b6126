#include "api/backends.hpp"

#include <array>

#include "cpu/cpu_backend.hpp"

namespace blockmoe::api {

std::span<const BackendEntry> backends() {
  static const std::array rows = {cpu::backend_entry()};
  return rows;
}

}  // namespace blockmoe::api
