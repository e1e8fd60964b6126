#include <cudaTypedefs.h>

#include "driver.h"
#include "once_a_context.h"

namespace blockmoe::kernels {

ContextId current_context() {
  static DriverFunction<PFN_cuCtxGetCurrent_v4000> get_current("cuCtxGetCurrent", 4000);
  static DriverFunction<PFN_cuCtxGetId_v12000> get_id("cuCtxGetId", 12000);
  PFN_cuCtxGetCurrent_v4000 current = nullptr;
  PFN_cuCtxGetId_v12000 id_of = nullptr;
  if (get_current.find(&current) != cudaSuccess || get_id.find(&id_of) != cudaSuccess) {
    cudaGetLastError();  // an answer, and no error that the next who asks the runtime should find
    return {};
  }
  CUcontext context = nullptr;
  unsigned long long id = 0;
  if (current(&context) != CUDA_SUCCESS || context == nullptr || id_of(context, &id) != CUDA_SUCCESS) return {};
  return id;
}

}  // namespace blockmoe::kernels
