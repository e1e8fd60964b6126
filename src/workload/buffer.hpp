// buffer.hpp: host memory for tensors: at least 64-byte aligned; large ones in huge pages where the system gives them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "blockmoe/status.hpp"

namespace blockmoe::workload {

class Buffer {
 public:
  static constexpr std::size_t kAlignment = 64;

  /// Contents are undefined. Fails with `out_of_memory`.
  static Result<std::shared_ptr<Buffer>> allocate(std::size_t bytes);

  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  Buffer(void* data, std::size_t bytes, std::size_t mapped) : data_(data), bytes_(bytes), mapped_(mapped) {}

  void* data_;
  std::size_t bytes_;
  std::size_t mapped_;  // bytes of the mapping; 0 for memory from the heap
};

}  // namespace blockmoe::workload
