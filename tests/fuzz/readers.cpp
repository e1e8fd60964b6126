#include "readers.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "workload/definition.hpp"
#include "workload/safetensors.hpp"
#include "workload/workload.hpp"

namespace blockmoe::fuzz {
namespace {

void promise(bool kept) {
  if (!kept) __builtin_trap();
}

// What every refusal looks like: one printable line that begins with the file's name.
Status refused(const Status& status) {
  const std::string& message = status.message();
  promise(status.code() == StatusCode::invalid_argument);
  promise(message.compare(0, std::string_view(kName).size(), kName) == 0);
  promise(message.find('\n') == std::string::npos);
  return status;
}

std::string_view text_of(const std::uint8_t* bytes, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

}  // namespace

Status read_jsonl(const std::uint8_t* bytes, std::size_t size) {
  const auto rows = workload::parse_workloads(text_of(bytes, size), kName, "", "");
  if (!rows.ok()) return refused(rows.status());
  promise(!rows.value().empty());
  for (const workload::Workload& row : rows.value()) {
    promise(!row.uuid.empty() && row.line > 0);
    promise(row.tokens >= 0 && row.tokens <= contract::kMaxTokens);
    promise(workload::check_geometry(row.geometry).ok());
    promise(row.values.at("uuid") == row.uuid);
    // A row is kept as it stands, so reading it again gives the same.
    const auto again = workload::parse_workloads(row.values.at("workload_json"), kName, "", "");
    promise(again.ok() && again.value().size() == 1);
    promise(again.value().front().values == row.values && again.value().front().geometry == row.geometry);
  }
  return {};
}

Status read_safetensors(const std::uint8_t* bytes, std::size_t size) {
  const auto* begin = reinterpret_cast<const std::byte*>(bytes);
  const auto file = workload::SafetensorsFile::parse(begin, size, kName);
  if (!file.ok()) return refused(file.status());
  std::vector<std::pair<std::size_t, std::size_t>> ranges;
  std::uint64_t sum = 0;
  for (const auto& [name, view] : file.value().tensors()) {
    promise(file.value().find(name).ok());
    const auto from = static_cast<std::size_t>(view.data - begin);
    promise(from <= size && view.bytes <= size - from);
    for (std::size_t i = 0; i < view.bytes; ++i) sum += std::to_integer<std::uint64_t>(view.data[i]);
    ranges.emplace_back(from, from + view.bytes);
  }
  promise(sum <= 255 * size);  // no byte counted twice
  std::sort(ranges.begin(), ranges.end());
  for (std::size_t i = 1; i < ranges.size(); ++i) promise(ranges[i - 1].second == ranges[i].first);
  return {};
}

Status read_definition(const std::uint8_t* bytes, std::size_t size) {
  const auto definition = workload::parse_definition(text_of(bytes, size), kName);
  if (!definition.ok()) return refused(definition.status());
  promise(!definition.value().name.empty() && !definition.value().tokens_axis.empty());
  promise(workload::check_geometry(definition.value().geometry).ok());
  return {};
}

}  // namespace blockmoe::fuzz
