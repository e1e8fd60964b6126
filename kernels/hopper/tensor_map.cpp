#include "hopper/tensor_map.h"

#include <cudaTypedefs.h>

#include "driver.h"

namespace blockmoe::kernels::hopper {

cudaError_t make_tensor_map(CUtensorMap* map, const void* base, std::uint64_t rows, std::uint64_t columns,
                            std::uint32_t box_rows, std::uint32_t box_columns, CUtensorMapSwizzle swizzle) {
  static DriverFunction<PFN_cuTensorMapEncodeTiled_v12000> encode_tiled("cuTensorMapEncodeTiled", 12000);
  PFN_cuTensorMapEncodeTiled_v12000 encode = nullptr;
  if (const cudaError_t error = encode_tiled.find(&encode); error != cudaSuccess) return error;

  const cuuint64_t size[2] = {columns, rows};
  const cuuint64_t row_pitch[1] = {columns};
  const cuuint32_t box[2] = {box_columns, box_rows};
  const cuuint32_t step[2] = {1, 1};
  // The driver takes the address without const and only reads.
  void* const address = const_cast<void*>(base);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, address, size, row_pitch, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
             swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace blockmoe::kernels::hopper
