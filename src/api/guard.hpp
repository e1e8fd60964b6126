// guard.hpp: turns what the standard library throws into a Status, at every entry of the public API.
#pragma once

#include <exception>
#include <new>

#include "blockmoe/status.hpp"

namespace blockmoe::api {

/// body() returns a Status or a Result.
template <typename Body>
auto guarded(Body&& body) noexcept -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::out_of_memory, "host memory");  // short enough not to allocate
  } catch (const std::exception& error) {
    return Status(StatusCode::device_error, error.what());  // of the system: threads, for one
  }
}

}  // namespace blockmoe::api
