// nccl.hpp: what expert parallel needs of NCCL 2.28 and later: names, values and layouts of its ABI, declared here so that a
// build needs no package for it. The library is loaded when asked for; where the process has it already, that one is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "blockmoe/status.hpp"

namespace blockmoe::ep::nccl {

using Code = std::int32_t;  // ncclResult_t: 0 is success
using Comm = struct CommTag*;
using Stream = void*;  // a cudaStream_t

inline constexpr Code kInProgress = 7;
inline constexpr std::int32_t kLeastVersion = 22800;  // 2.28.0

enum class DataType : std::int32_t { uint8 = 1, float32 = 7 };
enum class Operation : std::int32_t { sum = 0 };

struct UniqueId {
  char bytes[128];
};

/// The beginning of ncclConfig_t. NCCL reads as many bytes as `size` says and chooses the rest itself.
struct Config {
  static constexpr int kUndefined = std::numeric_limits<int>::min();
  std::size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = kLeastVersion;
  int blocking = kUndefined;
  int cga_cluster_size = kUndefined;
  int min_ctas = kUndefined;
  int max_ctas = kUndefined;
};

// The functions, each under its name without "nccl".
struct Functions {
  Code (*get_version)(int* version) = nullptr;
  Code (*get_unique_id)(UniqueId*) = nullptr;
  Code (*comm_init_rank_config)(Comm*, int ranks, UniqueId, int rank, Config*) = nullptr;
  Code (*comm_destroy)(Comm) = nullptr;
  Code (*comm_abort)(Comm) = nullptr;
  Code (*comm_get_async_error)(Comm, Code*) = nullptr;
  Code (*comm_count)(Comm, int*) = nullptr;
  Code (*comm_user_rank)(Comm, int*) = nullptr;
  Code (*comm_cu_device)(Comm, int*) = nullptr;
  Code (*all_gather)(const void* from, void* to, std::size_t count_a_rank, DataType, Comm, Stream) = nullptr;
  Code (*reduce_scatter)(const void* from, void* to, std::size_t count_a_rank, DataType, Operation, Comm,
                         Stream) = nullptr;
  Code (*send)(const void* from, std::size_t count, DataType, int peer, Comm, Stream) = nullptr;
  Code (*recv)(void* to, std::size_t count, DataType, int peer, Comm, Stream) = nullptr;
  Code (*group_start)() = nullptr;
  Code (*group_end)() = nullptr;
  const char* (*get_error_string)(Code) = nullptr;

  Code make_comm(Comm* comm, int ranks, const UniqueId& id, int rank, int max_ctas = Config::kUndefined) const {
    Config config;
    config.max_ctas = max_ctas;
    return comm_init_rank_config(comm, ranks, id, rank, &config);
  }
};

/// `unsupported` where libnccl.so.2 is not found, is older than kLeastVersion or lacks one of them. Loaded once a process.
Result<const Functions*> load();

}  // namespace blockmoe::ep::nccl
