#include "workload/buffer.hpp"

#include <sys/mman.h>

#include <cstdlib>

#include "workload/error.hpp"

namespace blockmoe::workload {
namespace {

// From here on a mapping of its own, which goes back to the system at once and may be made of huge pages. Below, the
// heap, where address sanitizers watch the ends.
constexpr std::size_t kMapFrom = std::size_t{4} << 20;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t round_up(std::size_t bytes, std::size_t to) {
  return (bytes + to - 1) / to * to;
}

}  // namespace

Result<std::shared_ptr<Buffer>> Buffer::allocate(std::size_t bytes) {
  const bool maps = bytes >= kMapFrom;
  const std::size_t mapped = maps ? round_up(bytes, kHugePage) : 0;
  void* data = nullptr;
  if (maps) {
    data = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) data = nullptr;
    if (data != nullptr) ::madvise(data, mapped, MADV_HUGEPAGE);  // advice: nothing depends on it
  } else {
    data = std::aligned_alloc(kAlignment, round_up(bytes + 1, kAlignment));  // + 1: an empty tensor has an address too
  }
  if (data == nullptr)
    return Status(StatusCode::out_of_memory, fmt::format("no memory for a tensor of {} bytes", bytes));
  return std::shared_ptr<Buffer>(new Buffer(data, bytes, mapped));
}

Buffer::~Buffer() {
  if (mapped_ > 0) {
    ::munmap(data_, mapped_);
  } else {
    std::free(data_);
  }
}

}  // namespace blockmoe::workload
