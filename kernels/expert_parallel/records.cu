// records.cu: see records.h. All three move bytes and do little else; at small T each is a launch and a trip to memory.
//
//   pack     a CTA a slot: the row in 16-byte vectors while the picks are still being made, then ids and weights
//   unpack   a CTA 32 records: their scales go through shared memory, since a record has them together and the operator wants
//            tokens together
//   sum      a thread 8 columns of a token
#include "expert_parallel/records.h"

#include <cuda_bf16.h>

#include "checked.h"
#include "launch.h"
#include "ptx/griddepcontrol.h"
#include "trace.h"

namespace blockmoe::kernels::expert_parallel {
namespace {

constexpr int kPackThreads = 256;
constexpr int kUnpackThreads = 256;
constexpr int kUnpackRecords = 32;
constexpr int kSumThreads = 256;
constexpr int kColumnsAThread = 8;

struct PackParams {
  RecordLayout layout;
  contract::Activations activations;
  contract::RoutedPicks picks;
  std::uint8_t* records;
};

__global__ void __launch_bounds__(kPackThreads) pack_records(const __grid_constant__ PackParams p) {
  const std::int64_t token = blockIdx.x;
  const contract::Activations& a = p.activations;
  std::uint8_t* const record = p.records + token * p.layout.bytes;
  const int thread = static_cast<int>(threadIdx.x);
  const bool exists = token < a.tokens;
  if (exists) {
    const auto* const row = reinterpret_cast<const uint4*>(a.hidden + token * a.hidden_pitch);
    auto* const to = reinterpret_cast<uint4*>(record);
    for (int i = thread; i < p.layout.hidden / 16; i += kPackThreads) to[i] = row[i];
    auto* const scales = reinterpret_cast<float*>(record + p.layout.hidden);
    for (int b = thread; b < p.layout.scale_blocks; b += kPackThreads) {
      scales[b] = a.hidden_scale[b * a.hidden_scale_pitch + token];
    }
  }
  ptx::griddepcontrol_wait();
  if (thread < p.layout.top_k) {
    const std::int64_t at = token * p.layout.top_k + thread;
    reinterpret_cast<std::int32_t*>(record + p.layout.ids_at)[thread] = exists ? p.picks.experts[at] : -1;
    reinterpret_cast<float*>(record + p.layout.weights_at)[thread] = exists ? p.picks.weights[at] : 0.0f;
  }
}

struct UnpackParams {
  RecordLayout layout;
  Run run;
  OwnerTable table;
  std::int32_t me;
  std::int32_t first_local;
  const std::uint8_t* records;
  float* scales;      // [H/128, M]
  std::int32_t* ids;  // [M, K]
};

__global__ void __launch_bounds__(kUnpackThreads) unpack_records(const __grid_constant__ UnpackParams p) {
  constexpr int kBlocksAtOnce = 64;
  __shared__ float tile[kBlocksAtOnce][kUnpackRecords + 1];
  const std::int64_t all = p.run.records();
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kUnpackRecords;
  const int here = static_cast<int>(all - first < kUnpackRecords ? all - first : kUnpackRecords);
  const auto record_at = [&](int i) { return p.records + (first + i) * p.layout.bytes; };

  ptx::griddepcontrol_wait();
  for (int i = static_cast<int>(threadIdx.x); i < here * p.layout.top_k; i += kUnpackThreads) {
    const std::int64_t record = first + i / p.layout.top_k;
    const std::int32_t expert =
        reinterpret_cast<const std::int32_t*>(record_at(i / p.layout.top_k) + p.layout.ids_at)[i % p.layout.top_k];
    std::int32_t local = -1;
    if (expert >= 0) {
      const Owner owner = owner_of(p.table, expert, p.run.rank_of(record), p.run.token_of(record));
      if (owner.rank == p.me) local = p.first_local + owner.slot;
    }
    p.ids[first * p.layout.top_k + i] = local;
  }
  for (int base = 0; base < p.layout.scale_blocks; base += kBlocksAtOnce) {
    const int blocks = min(kBlocksAtOnce, p.layout.scale_blocks - base);
    for (int i = static_cast<int>(threadIdx.x); i < here * blocks; i += kUnpackThreads) {
      tile[i % blocks][i / blocks] =
          reinterpret_cast<const float*>(record_at(i / blocks) + p.layout.hidden)[base + i % blocks];
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < blocks * kUnpackRecords; i += kUnpackThreads) {
      const int record = i % kUnpackRecords;
      const int block = i / kUnpackRecords;
      if (record < here) p.scales[static_cast<std::int64_t>(base + block) * all + first + record] = tile[block][record];
    }
    __syncthreads();
  }
}

__device__ void add(const float* from, float (&sum)[kColumnsAThread]) {
  const float4 low = reinterpret_cast<const float4*>(from)[0];
  const float4 high = reinterpret_cast<const float4*>(from)[1];
  const float x[kColumnsAThread] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
  for (int i = 0; i < kColumnsAThread; ++i) sum[i] = __fadd_rn(sum[i], x[i]);
}

__device__ void store(const float (&x)[kColumnsAThread], float* at) {
  reinterpret_cast<float4*>(at)[0] = make_float4(x[0], x[1], x[2], x[3]);
  reinterpret_cast<float4*>(at)[1] = make_float4(x[4], x[5], x[6], x[7]);
}
__device__ void store(const float (&x)[kColumnsAThread], __nv_bfloat16* at) {
  std::uint32_t words[kColumnsAThread / 2];
#pragma unroll
  for (int i = 0; i < kColumnsAThread / 2; ++i) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
    words[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
  }
  *reinterpret_cast<uint4*>(at) = make_uint4(words[0], words[1], words[2], words[3]);
}

template <typename Out>
__global__ void __launch_bounds__(kSumThreads) sum_parts(const __grid_constant__ SumParams p) {
  const std::int64_t vectors = p.hidden / kColumnsAThread;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
  if (i >= p.tokens * vectors) return;
  const std::int64_t token = i / vectors;
  const std::int64_t column = i % vectors * kColumnsAThread;
  ptx::griddepcontrol_wait();
  float sum[kColumnsAThread] = {};
  for (std::int32_t rank = 0; rank < p.ranks; ++rank) {
    const float* const row = rank == p.me ? p.own + token * p.hidden
                                          : p.back + part_row(token, rank, p.me, p.ranks, p.piece_slots) * p.hidden;
    add(row + column, sum);
  }
  store(sum, static_cast<Out*>(p.output) + token * p.output_pitch + column);
}

unsigned blocks_for(std::int64_t count, int each) {
  return static_cast<unsigned>((count + each - 1) / each);
}

}  // namespace

Error prepare() {
  return first_error([] { return prepare_kernel("pack_records", pack_records); },
                     [] { return prepare_kernel("unpack_records", unpack_records); },
                     [] { return prepare_kernel("sum_parts", sum_parts<float>); },
                     [] { return prepare_kernel("sum_parts", sum_parts<__nv_bfloat16>); });
}

Error launch_pack(const RecordLayout& layout, const contract::Activations& activations,
                  const contract::RoutedPicks& picks, std::int64_t slots, void* records, bool dependent, void* stream) {
  const TraceRange range("pack records");
  LaunchShape shape;
  shape.grid = static_cast<unsigned>(slots);
  shape.block = kPackThreads;
  shape.dependent = dependent;
  const PackParams p{layout, activations, picks, static_cast<std::uint8_t*>(records)};
  return launch_kernel("pack_records", pack_records, shape, static_cast<cudaStream_t>(stream), p);
}

Error launch_unpack(const RecordLayout& layout, const Run& run, const OwnerTable& table, std::int32_t me,
                    std::int32_t first_local, const void* records, float* scales, std::int32_t* ids, bool dependent,
                    void* stream) {
  const TraceRange range("unpack records");
  LaunchShape shape;
  shape.grid = blocks_for(run.records(), kUnpackRecords);
  shape.block = kUnpackThreads;
  shape.dependent = dependent;
  const UnpackParams p{layout, run, table, me, first_local, static_cast<const std::uint8_t*>(records), scales, ids};
  return launch_kernel("unpack_records", unpack_records, shape, static_cast<cudaStream_t>(stream), p);
}

Error launch_sum(const SumParams& params, bool dependent, void* stream) {
  if (params.tokens == 0) return {};
  const TraceRange range("sum parts");
  LaunchShape shape;
  shape.grid = blocks_for(params.tokens * (params.hidden / kColumnsAThread), kSumThreads);
  shape.block = kSumThreads;
  shape.dependent = dependent;
  const bool f32 = params.output_type == contract::FloatType::f32;
  return launch_kernel("sum_parts", f32 ? sum_parts<float> : sum_parts<__nv_bfloat16>, shape,
                       static_cast<cudaStream_t>(stream), params);
}

}  // namespace blockmoe::kernels::expert_parallel
