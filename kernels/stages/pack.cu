// pack.cu: from picks by token to rows by expert: cuts the slab into chunks, and orders each chunk's rows by
// (expert, token). By counting and prefix sums alone, so that the order never depends on how threads happen to run.
//
//   block_counts  [B, pitch], block_rows [B], pick_expert [T', P]
//   chunks [C], expert_begin [C, L + 1], row_to_token [T' P], pick_row [T', P]   out
//
// CTA b owns token block b. Every CTA reads all counts of its chunk (16 KB for 16384 tokens and 32 experts) and works out
// for itself where its rows go; so there is one launch, and no CTA waits for another. It first takes the whole slab for one
// chunk, which ordinary routing makes it: then counts and picks are all there is to read, at once. Only if the rows turn out
// to be too many does it look for the cuts, and count again.
//
// With few tokens the code itself, fetched from memory, is most of the time: loops that go round once stay loops.
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
constexpr int kVectorsAtOnce = 4;    // of counts, that a thread has on their way
static_assert(kVectorsAtOnce * plan::kTokenBlock < 256, "the sum of so many counts fits a byte");

struct PackParams {
  int tokens;               // T'
  int blocks;               // B
  int local_experts;        // L
  int picks;                // P
  int slots_to_token;       // slot * this >> 16 is slot / P, for the slots of a block
  int columns;              // of 16 experts
  int parts;                // of the chunk's blocks: as many as give each warp a share
  int shares_to_part;       // share * this >> 16 is share / columns
  int row_capacity;         // R
  int max_chunks;           // C
  std::uint32_t* counters;  // of the path, to become 0
  int counter_words;
  Workspace workspace;
};

static_assert(plan::kMaxSlabTokens / plan::kTokenBlock <= 2 * kThreads, "sum_rows gives two blocks to a thread");

// Counts of 16 experts, two of 16 bits a word: evens[i] holds experts 4i and 4i + 2, odds[i] 4i + 1 and 4i + 3. A chunk
// has at most 16384 tokens, so nothing overflows.
struct alignas(16) Counts16 {
  std::uint32_t evens[4] = {};
  std::uint32_t odds[4] = {};

  // 16 counts of a byte each.
  __device__ void add(const std::uint32_t (&bytes)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      evens[i] += bytes[i] & 0x00ff00ffu;
      odds[i] += (bytes[i] >> 8) & 0x00ff00ffu;
    }
  }

  __device__ void sum_over_warp() {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      evens[i] = __reduce_add_sync(kAllLanes, evens[i]);
      odds[i] = __reduce_add_sync(kAllLanes, odds[i]);
    }
  }

  __device__ std::uint32_t word_of(int e) const { return e % 2 == 0 ? evens[e / 4] : odds[e / 4]; }
  __device__ static int count_in(std::uint32_t word, int e) {
    return static_cast<int>(word >> e / 2 % 2 * 16 & 0xffffu);
  }
};

// What a warp counts: the rows of 16 experts in a part of the chunk's blocks.
struct Share {
  Counts16 before;  // in blocks before this CTA's
  Counts16 all;
};

struct PackMemory {
  Share* shares;               // [parts, columns]
  std::uint32_t* tokens_of;    // [L] bit t: token t of the block picked the expert
  std::int32_t* expert_begin;  // [L + 1] first row of the expert in the chunk; the last is the chunk's rows
  std::int32_t* first_row;     // [L] row of the block's first pick of the expert
  std::int32_t* rows_before;   // [B + 1] rows of the slab's blocks before

  static std::size_t bytes(const PackParams& p) {
    return static_cast<std::size_t>(p.parts * p.columns) * sizeof(Share) +
           static_cast<std::size_t>(3 * p.local_experts + 1 + p.blocks + 1) * 4;
  }

  __device__ PackMemory(char* base, const PackParams& p) {
    shares = reinterpret_cast<Share*>(base);
    tokens_of = reinterpret_cast<std::uint32_t*>(shares + p.parts * p.columns);
    expert_begin = reinterpret_cast<std::int32_t*>(tokens_of + p.local_experts);
    first_row = expert_begin + p.local_experts + 1;
    rows_before = first_row + p.local_experts;
  }
};

__device__ int inclusive_sum(int x) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
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

struct Cut {
  int chunk = 0;
  int begin = 0;  // token blocks [begin, end)
  int end = 0;
  int row_base = 0;  // rows of the slab's blocks before `begin`
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

// The chunk that holds this CTA's block, by all threads.
__device__ Cut cut_of(const PackParams& p, std::int32_t* rows_before, int block) {
  sum_rows(p, rows_before);
  __syncthreads();
  Cut cut;
  cut.end = end_of_chunk(p, rows_before, 0);
  while (cut.end <= block) {
    cut.begin = cut.end;
    cut.end = end_of_chunk(p, rows_before, cut.begin);
    ++cut.chunk;
  }
  BLOCKMOE_CHECK(cut.chunk < p.max_chunks && cut.begin <= block && cut.end <= p.blocks);
  cut.row_base = rows_before[cut.begin];
  return cut;
}

// A warp's share of the counts, all of them in turn.
__device__ void sum_counts(const PackParams& p, const Cut& cut, int block, const PackMemory& memory) {
  const int pitch = static_cast<int>(counts_pitch(p.local_experts));
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
  for (int unit = static_cast<int>(threadIdx.x) / 32; unit < p.columns * p.parts; unit += kWarps) {
    const int part = unit * p.shares_to_part >> 16;
    const int column = unit - part * p.columns;
    const std::uint8_t* const counts = p.workspace.block_counts + column * kExpertsAVector;
    Share share;
#pragma unroll 1
    for (int first = cut.begin + part * 32 + lane; first < cut.end; first += p.parts * 32 * kVectorsAtOnce) {
      std::uint32_t before[4] = {};
      std::uint32_t all[4] = {};
      uint4 vector[kVectorsAtOnce];
#pragma unroll
      for (int i = 0; i < kVectorsAtOnce; ++i) {
        const int b = first + i * p.parts * 32;
        vector[i] = b < cut.end ? *reinterpret_cast<const uint4*>(counts + b * pitch) : make_uint4(0, 0, 0, 0);
      }
#pragma unroll
      for (int i = 0; i < kVectorsAtOnce; ++i) {
        const std::uint32_t words[4] = {vector[i].x, vector[i].y, vector[i].z, vector[i].w};
#pragma unroll
        for (int w = 0; w < 4; ++w) {
          all[w] += words[w];
          if (first + i * p.parts * 32 < block) before[w] += words[w];
        }
      }
      share.before.add(before);
      share.all.add(all);
    }
    share.before.sum_over_warp();
    share.all.sum_over_warp();
    if (lane == 0) memory.shares[unit] = share;
  }
}

// expert_begin and first_row, by one warp.
__device__ void sum_experts(const PackParams& p, const PackMemory& memory) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int begin = 0;
#pragma unroll 1
  for (int base = 0; base < p.local_experts; base += 32) {
    const int e = base + lane;
    std::uint32_t before = 0;
    std::uint32_t all = 0;
    if (e < p.local_experts) {
#pragma unroll 1
      for (int part = 0; part < p.parts; ++part) {
        const Share& share = memory.shares[part * p.columns + e / kExpertsAVector];
        before += share.before.word_of(e % kExpertsAVector);
        all += share.all.word_of(e % kExpertsAVector);
      }
    }
    const int mine = Counts16::count_in(all, e);
    const int end = begin + inclusive_sum(mine);
    if (e < p.local_experts) {
      memory.expert_begin[e] = end - mine;
      memory.first_row[e] = end - mine + Counts16::count_in(before, e);
    }
    begin = __shfl_sync(kAllLanes, end, 31);
  }
  if (lane == 0) memory.expert_begin[p.local_experts] = begin;
}

// expert_begin and first_row from the shares, by all threads; what they noted before is there after.
__device__ void order_experts(const PackParams& p, const PackMemory& memory) {
  __syncthreads();
  if (threadIdx.x < 32) sum_experts(p, memory);
  __syncthreads();
}

// By the CTA of the chunk's first block.
__device__ void write_chunk(const PackParams& p, const Cut& cut, const PackMemory& memory) {
  std::int32_t* const out = p.workspace.expert_begin + static_cast<std::int64_t>(cut.chunk) * (p.local_experts + 1);
#pragma unroll 1
  for (int e = static_cast<int>(threadIdx.x); e <= p.local_experts; e += kThreads) out[e] = memory.expert_begin[e];
  if (threadIdx.x == 0) {
    Chunk chunk;
    chunk.token_begin = cut.begin * plan::kTokenBlock;
    chunk.token_end = min(cut.end * plan::kTokenBlock, p.tokens);
    chunk.row_base = cut.row_base;
    chunk.rows = memory.expert_begin[p.local_experts];
    BLOCKMOE_CHECK(chunk.rows <= p.row_capacity);
    p.workspace.chunks[cut.chunk] = chunk;
  }
}

// Chunks that the routing did not need, by the CTA of the slab's last block.
__device__ void write_empty_chunks(const PackParams& p, int first) {
#pragma unroll 1
  for (int c = first; c < p.max_chunks; ++c) {
    std::int32_t* const out = p.workspace.expert_begin + static_cast<std::int64_t>(c) * (p.local_experts + 1);
#pragma unroll 1
    for (int e = static_cast<int>(threadIdx.x); e <= p.local_experts; e += kThreads) out[e] = 0;
    if (threadIdx.x == 0) p.workspace.chunks[c] = {p.tokens, p.tokens, 0, 0};
  }
}

__global__ void __launch_bounds__(kThreads) pack(const __grid_constant__ PackParams p) {
  // At once: gemm1 reads nothing but weights before its own wait, which ends after this kernel does.
  ptx::griddepcontrol_launch_dependents();
  extern __shared__ __align__(16) char shared[];
  const PackMemory memory(shared, p);
  const int thread = static_cast<int>(threadIdx.x);
  const int block = static_cast<int>(blockIdx.x);
  const std::int64_t first_slot = static_cast<std::int64_t>(block) * plan::kTokenBlock * p.picks;
  const int slots = min(plan::kTokenBlock, p.tokens - block * plan::kTokenBlock) * p.picks;
#pragma unroll 1
  for (int e = thread; e < p.local_experts; e += kThreads) memory.tokens_of[e] = 0;
  __syncthreads();
  ptx::griddepcontrol_wait();
  const std::int32_t first_expert = thread < slots ? p.workspace.pick_expert[first_slot + thread] : -1;
#pragma unroll 1
  for (int i = block * kThreads + thread; i < p.counter_words; i += static_cast<int>(gridDim.x) * kThreads) {
    p.counters[i] = 0;
  }

  Cut cut;
  cut.end = p.blocks;
  sum_counts(p, cut, block, memory);
  std::int32_t expert = first_expert;
#pragma unroll 1
  for (int slot = thread; slot < slots; slot += kThreads) {
    if (slot != thread) expert = p.workspace.pick_expert[first_slot + slot];
    BLOCKMOE_CHECK(expert >= -1 && expert < p.local_experts);
    if (expert >= 0) atomicOr(&memory.tokens_of[expert], 1u << (slot * p.slots_to_token >> 16));
  }
  order_experts(p, memory);
  if (memory.expert_begin[p.local_experts] > p.row_capacity) {
    cut = cut_of(p, memory.rows_before, block);
    sum_counts(p, cut, block, memory);
    order_experts(p, memory);
  }
  if (block == cut.begin) write_chunk(p, cut, memory);
  if (block == p.blocks - 1) write_empty_chunks(p, cut.chunk + 1);

  expert = first_expert;
#pragma unroll 1
  for (int slot = thread; slot < slots; slot += kThreads) {
    if (slot != thread) expert = p.workspace.pick_expert[first_slot + slot];
    std::int32_t row = -1;
    if (expert >= 0) {
      const int token = slot * p.slots_to_token >> 16;
      const std::uint32_t earlier = memory.tokens_of[expert] & ((1u << token) - 1u);
      row = memory.first_row[expert] + __popc(earlier);
      BLOCKMOE_CHECK(row >= 0 && row < p.row_capacity);
      p.workspace.row_to_token[cut.row_base + row] = block * plan::kTokenBlock + token;
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
  p.slots_to_token = (1 << 16) / p.picks + 1;
  p.columns = static_cast<int>(counts_pitch(p.local_experts)) / kExpertsAVector;
  p.parts = p.columns < kWarps ? kWarps / p.columns : 1;
  p.shares_to_part = (1 << 16) / p.columns + 1;
  p.row_capacity = static_cast<int>(slab.sizes.row_capacity);
  p.max_chunks = slab.sizes.max_chunks;
  p.counters = slab.counters;
  p.counter_words = slab.counter_words;
  p.workspace = slab.workspace;
  LaunchShape shape;
  shape.grid = static_cast<unsigned>(p.blocks);
  shape.block = kThreads;
  shape.dependent = slab.dependent_launches;
  shape.shared_bytes = PackMemory::bytes(p);
  return launch_kernel("pack", pack, shape, stream, p);
}

Error prepare_pack() {
  return first_error([] { return prepare_kernel("pack", pack); }, [] { return prefer_shared_memory("pack", pack); });
}

}  // namespace blockmoe::kernels::stages
