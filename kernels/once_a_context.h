// once_a_context.h: what has to be done once in each context, however often it is asked for. Host; nothing of CUDA.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "operator.h"

namespace blockmoe::kernels {

// Of the current context; none where there is none. No other context of the process ever has the same number, unlike a handle or
// a device's number: after cudaDeviceReset() the device has a new context, in which nothing is done yet.
using ContextId = std::optional<std::uint64_t>;
ContextId current_context();

// Not to be shared by shared libraries: each has kernels of its own to prepare. So objects live in files, not in headers, where a
// loader would make one of several.
class OnceAContext {
 public:
  explicit OnceAContext(ContextId (*current)()) : current_(current) {}

  // Does `work` (which returns an Error) unless it succeeded before in the current context, for this `variant` of it. Of threads
  // that are first at the same time, each may do it.
  template <typename Work>
  Error run(std::int32_t variant, Work work) {
    if (is_done({current_(), variant})) return {};
    const Error error = work();
    if (error.ok()) remember({current_(), variant});  // asked again: the first call into CUDA makes the context
    return error;
  }

 private:
  struct Done {
    ContextId context;
    std::int32_t variant;

    bool operator==(const Done& other) const { return context == other.context && variant == other.variant; }
  };

  bool is_done(const Done& wanted) {
    if (!wanted.context) return false;
    const std::scoped_lock lock(mutex_);
    return is_known(wanted);
  }

  void remember(const Done& done) {
    if (!done.context) return;
    const std::scoped_lock lock(mutex_);
    if (!is_known(done)) done_.push_back(done);  // another thread may have been first
  }

  bool is_known(const Done& done) const { return std::find(done_.begin(), done_.end(), done) != done_.end(); }

  ContextId (*current_)();
  std::mutex mutex_;
  std::vector<Done> done_;  // a few, each once: contexts live long
};

}  // namespace blockmoe::kernels
