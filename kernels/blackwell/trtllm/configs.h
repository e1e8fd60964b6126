// configs.h: the batched-GEMM kernels that can do this layer's products, and their arguments. Host.
//
// One of two files is behind it: configs.cpp, which knows the export headers of flashinfer-cubin, or no_configs.cpp, where the build
// did not find them. Those headers are seen nowhere else.
//
// Wanted: e4m3 x e4m3 -> bf16 with fp32 accumulation and a scale for each 128 x 128 weights and each 128 values of a row ("DeepSeek
// FP8"), weights as they are in memory (not shuffled, K the fast axis), rows gathered already, counts known on the device, no activation
// fused, one CTA a cluster. The output is transposed as the kernel sees it: its M are the weights' rows, its N the tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <cuda.h>

#include "blackwell/products.h"
#include "blackwell/trtllm/maps.h"
#include "operator.h"

namespace blockmoe::kernels::blackwell::trtllm {

struct Config {
  std::string function;            // of the cubin, and of its file: cubin_name()
  std::string sha256;              // of the file
  std::int32_t tile = 0;           // rows of an expert that a CTA takes: 8, 16, 32, 64 or 128
  bool persistent = false;         // CTAs take tiles until none is left, instead of one each
  bool unrolled = false;           // two steps of K at once: K is a multiple of 256
  std::uint32_t threads = 0;       // a CTA
  std::uint32_t shared_bytes = 0;  // a CTA
};

// Why this build has none; empty where it has.
const char* why_no_configs();

std::int32_t config_count();

// Null, and why, where `index` is not in [0, config_count()).
const Config* config_at(std::int32_t index, std::string* why_not);

// The configuration for a product of `columns` x `depth` with tiles of `tile` rows, or -1, and why.
std::int32_t choose_config(std::int64_t columns, std::int64_t depth, std::int32_t experts, std::int32_t tile,
                           std::string* why_not);

// What a kernel takes as its one parameter, by value.
struct Arguments {
  static constexpr std::size_t kBytes = 20 * 1024;
  alignas(128) unsigned char bytes[kBytes];
};

// All of a product's arguments that are the same in every call; the rest is nonsense until fill_arguments(). Needs the driver.
bool make_arguments(std::int32_t index, std::int64_t columns, std::int64_t depth, std::int32_t experts,
                    Arguments* arguments, std::string* why_not);

// Those of one call, in a copy of what make_arguments() made. No allocation.
CUresult fill_arguments(const ProductCall& call, const Maps& maps, Arguments* arguments);

// CTAs of a call that can have `most_tiles`.
struct Grid {
  std::uint32_t x = 0, y = 0, z = 0;
};
Grid grid_of(std::int32_t index, std::int64_t columns, std::int64_t most_tiles);

}  // namespace blockmoe::kernels::blackwell::trtllm
