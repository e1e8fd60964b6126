// launch.h: a launch runs the kernel, as device_on_host/cuda_runtime.h has it, and comes back when it has ended.
#pragma once

#include "cuda_runtime.h"
#include "operator.h"

namespace blockmoe::kernels {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
  bool dependent = false;
};

template <typename Parameters, typename Arguments>
Error launch_kernel(const char*, void (*kernel)(Parameters), const LaunchShape& shape, cudaStream_t,
                    const Arguments& arguments) {
  test::DeviceOnHost::instance().run(shape.grid.x, shape.block.x, [&] { kernel(arguments); });
  return {};
}

template <typename Kernel>
Error prepare_kernel(const char*, Kernel) {
  return {};
}
template <typename Kernel>
Error prepare_for_any_shared_memory(const char*, Kernel) {
  return {};
}
template <typename Kernel>
Error prefer_shared_memory(const char*, Kernel) {
  return {};
}

template <typename... Steps>
Error first_error(Steps&&... steps) {
  Error error;
  static_cast<void>(((error = steps()).ok() && ...));
  return error;
}

}  // namespace blockmoe::kernels
