// pack.cu: from picks by token to rows by expert: cuts the slab into chunks, and orders each chunk's rows by
// (expert, token). By counting and prefix sums alone, so that the order never depends on how threads happen to run.
//
//   block_counts  [B, pitch], block_rows [B], pick_expert [T', P]
//   chunks [C], expert_begin [C, L + 1], row_to_token [T' P], pick_row [T', P]   out
//
// CTA b owns token block b. Every CTA reads all counts of its chunk (16 KB for 16384 tokens and 32 experts) and works out
// for itself where its rows go; so there is one launch, and no CTA waits for another.
#include <cstddef>
#include <cstdint>

#include "checked.h"
#include "launch.h"
#include "ptx/griddepcontrol.h"
#include "stages/stages.h"
#include "trace.h"

namespace blockmoe::kernels::stages {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kExpertsAVector = 16;  // counts that one 16-byte load brings

struct PackParams {
  int tokens;               // T'
  int blocks;               // B
  int local_experts;        // L
  int picks;                // P
  int row_capacity;         // R
  int max_chunks;           // C
  std::uint32_t* counters;  // of the path, to become 0
  int counter_words;
  Workspace workspace;
};

static_assert(plan::kMaxSlabTokens / plan::kTokenBlock <= 2 * kThreads, "sum_rows gives two blocks to a thread");

struct PackMemory {
  std::int32_t* expert_before;  // [pitch] rows of the expert in the chunk's blocks before this one
  std::int32_t* expert_total;   // [pitch] rows of the expert in the chunk
  std::uint32_t* tokens_of;     // [L] bit t: token t of the block picked the expert
  std::int32_t* expert_begin;   // [L + 1] first row of the expert in the chunk
  std::int32_t* rows_before;    // [B + 1] rows of the slab's blocks before

  __host__ __device__ static int cleared(int local_experts) {
    return 2 * static_cast<int>(counts_pitch(local_experts)) + local_experts;
  }

  static std::size_t bytes(int blocks, int local_experts) {
    return static_cast<std::size_t>(cleared(local_experts) + local_experts + 1 + blocks + 1) * 4;
  }

  __device__ PackMemory(char* base, const PackParams& p) {
    const int pitch = static_cast<int>(counts_pitch(p.local_experts));
    expert_before = reinterpret_cast<std::int32_t*>(base);
    expert_total = expert_before + pitch;
    tokens_of = reinterpret_cast<std::uint32_t*>(expert_total + pitch);
    expert_begin = reinterpret_cast<std::int32_t*>(tokens_of + p.local_experts);
    rows_before = expert_begin + p.local_experts + 1;
  }
};

__device__ int inclusive_sum(int x) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int distance = 1; distance < 32; distance *= 2) {
    const int before = __shfl_up_sync(kAllLanes, x, static_cast<unsigned>(distance));
    if (lane >= distance) x += before;
  }
  return x;
}

// rows_before, by all threads, each with two neighbouring blocks.
__device__ void sum_rows(const PackParams& p, std::int32_t* rows_before) {
  __shared__ int of_warp[kWarps];
  const int thread = static_cast<int>(threadIdx.x);
  const int block = 2 * thread;
  const int first = block < p.blocks ? p.workspace.block_rows[block] : 0;
  const int second = block + 1 < p.blocks ? p.workspace.block_rows[block + 1] : 0;
  int end = inclusive_sum(first + second);
  if (thread % 32 == 31) of_warp[thread / 32] = end;
  __syncthreads();
  for (int w = 0; w < thread / 32; ++w) end += of_warp[w];
  if (block == 0) rows_before[0] = 0;
  if (block < p.blocks) rows_before[block + 1] = end - second;
  if (block + 1 < p.blocks) rows_before[block + 2] = end;
}

// expert_begin, by one warp.
__device__ void sum_experts(const PackParams& p, const PackMemory& memory) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int before = 0;
  for (int base = 0; base < p.local_experts; base += 32) {
    const int e = base + lane;
    const int mine = e < p.local_experts ? memory.expert_total[e] : 0;
    const int end = before + inclusive_sum(mine);
    if (e < p.local_experts) memory.expert_begin[e] = end - mine;
    before = __shfl_sync(kAllLanes, end, 31);
  }
  if (lane == 0) memory.expert_begin[p.local_experts] = before;
}

struct Cut {
  int chunk = 0;
  int begin = 0;  // token blocks [begin, end)
  int end = 0;
};

// The block after the last that fits a chunk beginning at `begin`.
__device__ int end_of_chunk(const PackParams& p, const std::int32_t* rows_before, int begin) {
  int low = begin + 1;  // a block always fits
  int high = p.blocks + 1;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (rows_before[middle] - rows_before[begin] <= p.row_capacity) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// The chunk that holds this CTA's block.
__device__ Cut cut_of(const PackParams& p, const std::int32_t* rows_before, int block) {
  Cut cut;
  cut.end = end_of_chunk(p, rows_before, 0);
  while (cut.end <= block) {
    cut.begin = cut.end;
    cut.end = end_of_chunk(p, rows_before, cut.begin);
    ++cut.chunk;
  }
  BLOCKMOE_CHECK(cut.chunk < p.max_chunks && cut.begin <= block && cut.end <= p.blocks);
  return cut;
}

// 16 counts as sums of 16 bits, two a word: evens[i] holds experts 4i and 4i + 2, odds[i] 4i + 1 and 4i + 3. A chunk has
// at most 16384 tokens, so nothing overflows.
struct Counts16 {
  std::uint32_t evens[4] = {};
  std::uint32_t odds[4] = {};

  __device__ void add(const uint4& v) {
    const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      evens[i] += words[i] & 0x00ff00ffu;
      odds[i] += (words[i] >> 8) & 0x00ff00ffu;
    }
  }

  __device__ void sum_over_warp() {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      evens[i] = __reduce_add_sync(kAllLanes, evens[i]);
      odds[i] = __reduce_add_sync(kAllLanes, odds[i]);
    }
  }

  // out[e] += count of expert e, by one thread.
  __device__ void add_to(std::int32_t* out) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      atomicAdd(&out[4 * i], static_cast<int>(evens[i] & 0xffffu));
      atomicAdd(&out[4 * i + 1], static_cast<int>(odds[i] & 0xffffu));
      atomicAdd(&out[4 * i + 2], static_cast<int>(evens[i] >> 16));
      atomicAdd(&out[4 * i + 3], static_cast<int>(odds[i] >> 16));
    }
  }
};

// expert_before and expert_total, which are 0 before. A warp takes 16 experts of a part of the chunk's blocks.
__device__ void sum_counts(const PackParams& p, const Cut& cut, int block, const PackMemory& memory) {
  const int pitch = static_cast<int>(counts_pitch(p.local_experts));
  const int columns = pitch / kExpertsAVector;
  const int parts = columns < kWarps ? kWarps / columns : 1;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int unit = static_cast<int>(threadIdx.x) / 32; unit < columns * parts; unit += kWarps) {
    const int column = unit % columns;
    const int part = unit / columns;
    Counts16 before;
    Counts16 rest;
    for (int b = cut.begin + part * 32 + lane; b < cut.end; b += parts * 32) {
      const uint4 counts = *reinterpret_cast<const uint4*>(
          p.workspace.block_counts + static_cast<std::int64_t>(b) * pitch + column * kExpertsAVector);
      if (b < block) {
        before.add(counts);
      } else {
        rest.add(counts);
      }
    }
    before.sum_over_warp();
    rest.sum_over_warp();
    if (lane == 0) {
      before.add_to(memory.expert_before + column * kExpertsAVector);
      before.add_to(memory.expert_total + column * kExpertsAVector);
      rest.add_to(memory.expert_total + column * kExpertsAVector);
    }
  }
}

// By the CTA of the chunk's first block.
__device__ void write_chunk(const PackParams& p, const Cut& cut, const PackMemory& memory) {
  std::int32_t* const out = p.workspace.expert_begin + static_cast<std::int64_t>(cut.chunk) * (p.local_experts + 1);
  for (int e = static_cast<int>(threadIdx.x); e <= p.local_experts; e += kThreads) out[e] = memory.expert_begin[e];
  if (threadIdx.x == 0) {
    Chunk chunk;
    chunk.token_begin = cut.begin * plan::kTokenBlock;
    chunk.token_end = min(cut.end * plan::kTokenBlock, p.tokens);
    chunk.row_base = memory.rows_before[cut.begin];
    chunk.rows = memory.rows_before[cut.end] - chunk.row_base;
    BLOCKMOE_CHECK(chunk.rows <= p.row_capacity && chunk.rows == memory.expert_begin[p.local_experts]);
    p.workspace.chunks[cut.chunk] = chunk;
  }
}

// Chunks that the routing did not need, by the CTA of the slab's last block.
__device__ void write_empty_chunks(const PackParams& p, int first) {
  for (int c = first; c < p.max_chunks; ++c) {
    std::int32_t* const out = p.workspace.expert_begin + static_cast<std::int64_t>(c) * (p.local_experts + 1);
    for (int e = static_cast<int>(threadIdx.x); e <= p.local_experts; e += kThreads) out[e] = 0;
    if (threadIdx.x == 0) p.workspace.chunks[c] = {p.tokens, p.tokens, 0, 0};
  }
}

__global__ void __launch_bounds__(kThreads) pack(const __grid_constant__ PackParams p) {
  extern __shared__ __align__(16) char shared[];
  const PackMemory memory(shared, p);
  const int thread = static_cast<int>(threadIdx.x);
  const int block = static_cast<int>(blockIdx.x);
  for (int i = thread; i < PackMemory::cleared(p.local_experts); i += kThreads) memory.expert_before[i] = 0;
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  for (int i = block * kThreads + thread; i < p.counter_words; i += static_cast<int>(gridDim.x) * kThreads) {
    p.counters[i] = 0;
  }
  sum_rows(p, memory.rows_before);
  __syncthreads();

  const std::int64_t first_slot = static_cast<std::int64_t>(block) * plan::kTokenBlock * p.picks;
  const int slots = min(plan::kTokenBlock, p.tokens - block * plan::kTokenBlock) * p.picks;
  for (int slot = thread; slot < slots; slot += kThreads) {
    const std::int32_t expert = p.workspace.pick_expert[first_slot + slot];
    BLOCKMOE_CHECK(expert >= -1 && expert < p.local_experts);
    if (expert >= 0) atomicOr(&memory.tokens_of[expert], 1u << (slot / p.picks));
  }
  const Cut cut = cut_of(p, memory.rows_before, block);
  sum_counts(p, cut, block, memory);
  __syncthreads();
  if (thread < 32) sum_experts(p, memory);
  __syncthreads();
  if (block == cut.begin) write_chunk(p, cut, memory);
  if (block == p.blocks - 1) write_empty_chunks(p, cut.chunk + 1);

  const std::int32_t row_base = memory.rows_before[cut.begin];
  for (int slot = thread; slot < slots; slot += kThreads) {
    const std::int32_t expert = p.workspace.pick_expert[first_slot + slot];
    std::int32_t row = -1;
    if (expert >= 0) {
      const int token = slot / p.picks;
      const std::uint32_t earlier = memory.tokens_of[expert] & ((1u << token) - 1u);
      row = memory.expert_begin[expert] + memory.expert_before[expert] + __popc(earlier);
      BLOCKMOE_CHECK(row >= 0 && row < p.row_capacity && row_base + row < memory.rows_before[p.blocks]);
      p.workspace.row_to_token[row_base + row] = block * plan::kTokenBlock + token;
    }
    p.workspace.pick_row[first_slot + slot] = row;
  }
}

}  // namespace

Error launch_pack(const Slab& slab, cudaStream_t stream) {
  const TraceRange range("pack");
  PackParams p = {};
  p.tokens = static_cast<int>(slab.activations.tokens);
  p.blocks = (p.tokens + plan::kTokenBlock - 1) / plan::kTokenBlock;
  p.local_experts = slab.geometry.local_experts;
  p.picks = slab.sizes.picks;
  p.row_capacity = static_cast<int>(slab.sizes.row_capacity);
  p.max_chunks = slab.sizes.max_chunks;
  p.counters = slab.counters;
  p.counter_words = slab.counter_words;
  p.workspace = slab.workspace;
  LaunchShape shape;
  shape.grid = static_cast<unsigned>(p.blocks);
  shape.block = kThreads;
  shape.dependent = slab.dependent_launches;
  shape.shared_bytes = PackMemory::bytes(p.blocks, p.local_experts);
  return launch_kernel("pack", pack, shape, stream, p);
}

Error prepare_pack() {
  return prepare_kernel("pack", pack);
}

}  // namespace blockmoe::kernels::stages
