// cublaslt.hpp: what the product rates need of cuBLASLt 13: names, values and layouts of its ABI.
//
// Declared here, since the toolkit that comes from PyPI has no cublasLt.h and the package that has it is 400 MB large. The
// library is loaded when asked for. tests/unit/cublaslt_test.cpp holds all of this to the header where there is one.
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "blockmoe/status.hpp"

namespace blockmoe::measure::cublaslt {

using Code = std::int32_t;  // of a call: 0 is success
using Handle = struct HandleTag*;
using Desc = struct DescTag*;
using Layout = struct LayoutTag*;
using Preference = struct PreferenceTag*;

enum class Compute : std::int32_t { f32 = 68 };
enum class Operation : std::int32_t { transposed = 1 };
enum class DescAttribute : std::int32_t {
  transpose_a = 3,
  scale_pointer_a = 17,
  scale_pointer_b = 18,
  scale_mode_a = 31,
  scale_mode_b = 32
};
enum class ScaleMode : std::int32_t { scalar = 0, vector_of_128 = 4, block_of_128x128 = 5 };
enum class PreferenceAttribute : std::int32_t { max_workspace_bytes = 1 };

struct Algorithm {
  std::array<std::uint64_t, 8> opaque;
};
struct Proposal {
  Algorithm algorithm;
  std::size_t workspace_bytes;
  Code state;
  float waves;
  std::array<std::int32_t, 4> reserved;
};

// The functions, each under its name without "cublasLt".
struct Functions {
  Code (*create)(Handle*) = nullptr;
  Code (*destroy)(Handle) = nullptr;
  Code (*desc_create)(Desc*, Compute, cudaDataType) = nullptr;
  Code (*desc_destroy)(Desc) = nullptr;
  Code (*desc_set)(Desc, DescAttribute, const void*, std::size_t) = nullptr;
  Code (*layout_create)(Layout*, cudaDataType, std::uint64_t rows, std::uint64_t columns, std::int64_t pitch) = nullptr;
  Code (*layout_destroy)(Layout) = nullptr;
  Code (*preference_create)(Preference*) = nullptr;
  Code (*preference_destroy)(Preference) = nullptr;
  Code (*preference_set)(Preference, PreferenceAttribute, const void*, std::size_t) = nullptr;
  Code (*propose)(Handle, Desc, Layout a, Layout b, Layout c, Layout d, Preference, int wanted, Proposal*,
                  int* found) = nullptr;
  Code (*multiply)(Handle, Desc, const void* alpha, const void* a, Layout, const void* b, Layout, const void* beta,
                   const void* c, Layout, void* d, Layout, const Algorithm*, void* workspace, std::size_t,
                   cudaStream_t) = nullptr;
};

/// `unsupported` where libcublasLt.so.13 is not found or lacks one of them.
Result<Functions> load();

}  // namespace blockmoe::measure::cublaslt
