// nccl.cpp: see nccl.hpp.
#include "ep/nccl.hpp"

#include <dlfcn.h>

#include <string>
#include <type_traits>

#include "api/refusal.hpp"

namespace blockmoe::ep::nccl {
namespace {

constexpr const char* kFile = "libnccl.so.2";

Result<Functions> find_all() {
  void* const library = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return Status(StatusCode::unsupported, std::string(kFile) +
                                               " is not found (package nvidia-nccl-cu13 has it; "
                                               "LD_LIBRARY_PATH says where)");
  }
  Functions f;
  const char* missing = nullptr;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (function == nullptr) missing = name;
  };
  find(f.get_version, "ncclGetVersion");
  find(f.get_unique_id, "ncclGetUniqueId");
  find(f.comm_init_rank_config, "ncclCommInitRankConfig");
  find(f.comm_destroy, "ncclCommDestroy");
  find(f.comm_abort, "ncclCommAbort");
  find(f.comm_get_async_error, "ncclCommGetAsyncError");
  find(f.comm_count, "ncclCommCount");
  find(f.comm_user_rank, "ncclCommUserRank");
  find(f.comm_cu_device, "ncclCommCuDevice");
  find(f.all_gather, "ncclAllGather");
  find(f.reduce_scatter, "ncclReduceScatter");
  find(f.send, "ncclSend");
  find(f.recv, "ncclRecv");
  find(f.group_start, "ncclGroupStart");
  find(f.group_end, "ncclGroupEnd");
  find(f.get_error_string, "ncclGetErrorString");
  if (missing != nullptr) return Status(StatusCode::unsupported, std::string(kFile) + " has no " + missing);
  int version = 0;
  f.get_version(&version);
  if (version < kLeastVersion) {
    return Status(StatusCode::unsupported,
                  api::join(kFile, ": version ", version, ", expected ", kLeastVersion, " (2.28) or later"));
  }
  return f;
}

}  // namespace

Result<const Functions*> load() {
  static const Result<Functions> found = find_all();
  if (!found.ok()) return found.status();
  return &found.value();
}

}  // namespace blockmoe::ep::nccl
