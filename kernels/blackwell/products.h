// products.h: how the path calls an implementation of a grouped product, gemm1's or gemm2's. Host; no CUTLASS, no cubin.
//
//   rows      [begin[L], K]      e4m3          weights      [L, N, K]          e4m3
//   row_scale [K/128, begin[L]]  f32           weight_scale [L, N/128, K/128]  f32
//   output    [begin[L], N]      f32 or bf16: for each real row r of expert e, rows[r] times weights[e] transposed
//
// A chunk's rows stand by expert, each expert's first at a multiple of `row_padding`: begin[e] = sum of the earlier experts' counts,
// each rounded up to it. Rows between an expert's last and the next one's first hold anything, in `rows`, `row_scale` and `output`:
// read or written, they reach no real row. begin[L], all rows with their padding, is also the pitch of row_scale, and is known on
// the device alone, as the counts are.
//
// Where a policy asks for the number of rows, every implementation that it may choose is launched, and the device says which one
// works: the others' counts are all 0 (`row_count`), and they end without reading or writing anything else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <cuda_runtime_api.h>

#include "blackwell/groups.h"
#include "contract/geometry.h"
#include "operator.h"
#include "plan/blackwell_policy.h"
#include "plan/sizes.h"

namespace blockmoe::kernels::blackwell {

using plan::Implementation;
using plan::Product;

inline constexpr std::int32_t kComputeCapability = 100;  // sm_100a code runs on no other

// What the host knows of a product when a call is launched. Pointers are to device memory, aligned to 256 bytes but for the weights
// (16), the weights' scales and the arrays of int32.
struct ProductCall {
  Product product = Product::gemm1;
  std::int32_t experts = 0;       // L
  std::int64_t columns = 0;       // N: 2I of gemm1, H of gemm2; a multiple of 128
  std::int64_t depth = 0;         // K: H, I; a multiple of 128
  std::int64_t tokens = 0;        // T of the call
  std::int64_t most_rows = 0;     // the chunk's, without padding, are at most this
  std::int64_t row_capacity = 0;  // begin[L] is at most this
  std::int32_t row_padding = 4;

  const std::uint8_t* rows = nullptr;
  const float* row_scale = nullptr;
  const std::uint8_t* weights = nullptr;
  const float* weight_scale = nullptr;
  void* output = nullptr;
  plan::RowType output_type = plan::RowType::f32;

  const std::int32_t* row_begin = nullptr;  // [L + 1] begin
  const std::int32_t* row_count = nullptr;  // [L] this implementation's rows of each expert; all 0 where it is silenced

  plan::TileTable tiles;            // for cutlass: what it is launched with, and
  Groups groups[plan::kMostTiles];  // their groups, by index in the table; all empty where it is silenced
  void* workspace = nullptr;        // workspace_bytes(): anything before, means nothing after
  std::int32_t sms = 0;             // multiprocessors that the product may use
};

// One row of functions an implementation.
struct ProductEntry {
  Implementation implementation;
  bool (*supports)(const Request& request,
                   std::string* why_not);               // this build, this device, the packages here; on the host
  std::int32_t (*row_padding)(const Request& request);  // a power of two, 4 to 128
  bool (*gives)(plan::RowType type);                    // whether it can write such an output
  std::string (*explain)(const Request& request, Product product);  // what it would run, and why: no line end
  std::size_t (*workspace_bytes)(const Request& request);           // of one product, for any T up to the request's
  // Loads its kernels for the current device: what launch() needs beside its ProductCall.
  Error (*bind)(const Plan& plan, std::shared_ptr<const void>* state);
  // Only launches: no allocation, no wait, safe under capture.
  Error (*launch)(const ProductCall& call, const void* state, cudaStream_t stream);
};

ProductEntry cutlass_entry();
ProductEntry trtllm_entry();

}  // namespace blockmoe::kernels::blackwell
