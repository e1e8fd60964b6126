// tensor_map.h: descriptions of tensors for the copy engine. Host.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace blockmoe::kernels::hopper {

// A row-major byte matrix [rows, columns] without gaps, read in boxes of box_rows x box_columns. `base` is aligned to 16,
// `columns` a multiple of 16, box_rows at most 256; with the 128-byte swizzle box_columns is at most 128. Fails where there is
// no driver.
cudaError_t make_tensor_map(CUtensorMap* map, const void* base, std::uint64_t rows, std::uint64_t columns,
                            std::uint32_t box_rows, std::uint32_t box_columns, CUtensorMapSwizzle swizzle);

}  // namespace blockmoe::kernels::hopper
