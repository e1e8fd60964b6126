#include "api/backends.hpp"

#include <array>

#include "cpu/cpu_backend.hpp"

#if BLOCKMOE_WITH_CUDA
#include "api/cuda_backend.hpp"
#endif

namespace blockmoe::api {

std::span<const BackendEntry> backends() {
#if BLOCKMOE_WITH_CUDA
  static const std::array rows = {blackwell_entry(), hopper_entry(), portable_entry(), cpu::backend_entry()};
#else
  static const std::array rows = {cpu::backend_entry()};
#endif
  return rows;
}

}  // namespace blockmoe::api
