// backends.hpp: the implementations in this build, and the choice among them.
#pragma once

#include <span>
#include <string>

#include "api/backend.hpp"

namespace blockmoe::api {

/// All rows; `automatic` is the first that runs on the device, and holds every promise of docs/numerics.md. In a file of
/// its own (backends.cpp), so that a test that defines this function links without any real backend.
std::span<const BackendEntry> backends();

/// What options.backend asks for; for `automatic`, the first row that runs the request. `unsupported` says why not.
Result<BackendEntry> choose_backend(const PlanRequest& request, std::span<const BackendEntry> rows);

/// Of the rows for the device that `automatic` passed over before `chosen`, why: a line each. Empty for another choice.
std::string passed_over(const PlanRequest& request, std::span<const BackendEntry> rows, const BackendEntry& chosen);

}  // namespace blockmoe::api
