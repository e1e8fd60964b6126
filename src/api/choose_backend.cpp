#include <algorithm>

#include "api/backends.hpp"
#include "api/refusal.hpp"
#include "api/return_if_error.hpp"

namespace blockmoe::api {
namespace {

// "cpu" or "cuda:0 (NVIDIA H200)"
std::string described(const DeviceInfo& info) {
  const std::string name = info.name;
  return name.empty() ? text_of(info.device) : join(text_of(info.device), " (", name, ")");
}

std::string names_of(std::span<const BackendEntry> rows) {
  std::string names;
  for (const BackendEntry& row : rows) names += names.empty() ? row.name : join(", ", row.name);
  return names;
}

Status check_supports(const BackendEntry& row, const PlanRequest& request) {
  if (row.device_type != request.device.device.type) {
    return {StatusCode::unsupported,
            join("it is for ", row.device_type == DeviceType::cpu ? "the CPU" : "CUDA devices")};
  }
  std::string why_not;
  if (row.supports(request, &why_not)) return {};
  return {StatusCode::unsupported, std::move(why_not)};
}

Result<BackendEntry> choose_named(const PlanRequest& request, std::span<const BackendEntry> rows) {
  const auto row = std::ranges::find(rows, request.options.backend, &BackendEntry::backend);
  if (row == rows.end()) {
    return Status(StatusCode::unsupported,
                  join("options.backend: number ", static_cast<std::int32_t>(request.options.backend),
                       " is not in this build, which has: ", names_of(rows)));
  }
  const Status status = check_supports(*row, request);
  if (status.ok()) return *row;
  return Status(StatusCode::unsupported, join("options.backend: ", row->name, " can't run on ",
                                              described(request.device), ": ", status.message()));
}

}  // namespace

Result<BackendEntry> choose_backend(const PlanRequest& request, std::span<const BackendEntry> rows) {
  if (request.options.backend != Backend::automatic) return choose_named(request, rows);
  std::string reasons;
  for (const BackendEntry& row : rows) {
    const Status status = check_supports(row, request);
    if (status.ok()) return row;
    reasons += join(reasons.empty() ? "" : "; ", row.name, ": ", status.message());
  }
  return Status(StatusCode::unsupported,
                join("device: no backend of this build runs on ", described(request.device), " (", reasons, ")"));
}

std::string passed_over(const PlanRequest& request, std::span<const BackendEntry> rows, const BackendEntry& chosen) {
  std::string lines;
  if (request.options.backend != Backend::automatic) return lines;
  for (const BackendEntry& row : rows) {
    if (row.backend == chosen.backend) break;
    if (row.device_type != request.device.device.type) continue;
    lines += join("not ", row.name, ": ", check_supports(row, request).message(), "\n");
  }
  return lines;
}

}  // namespace blockmoe::api
