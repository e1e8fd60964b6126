#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "workload/error.hpp"
#include "workload/json.hpp"
#include "workload/safetensors.hpp"
#include "workload/safetensors_header.hpp"

namespace blockmoe::workload {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

bool write_all(std::FILE* file, const void* data, std::size_t bytes) {
  return bytes == 0 || std::fwrite(data, 1, bytes, file) == bytes;
}

struct Order {
  const std::string* name;
  const TensorView* view;
};

std::vector<Order> order_of(const std::map<std::string, TensorView>& tensors) {
  std::vector<Order> order;
  order.reserve(tensors.size());
  for (const auto& [name, view] : tensors) order.push_back({&name, &view});
  std::sort(order.begin(), order.end(), [](const Order& a, const Order& b) {
    const std::size_t a_bytes = type_bytes(a.view->type);
    const std::size_t b_bytes = type_bytes(b.view->type);
    return a_bytes != b_bytes ? a_bytes > b_bytes : *a.name < *b.name;
  });
  return order;
}

Result<std::string> header_text(const std::vector<Order>& order, const std::map<std::string, std::string>& metadata) {
  constexpr std::size_t kAlignment = 64;
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  std::uint64_t at_byte = 0;
  for (const auto& [name, view] : order) {
    if (bytes_of(*view) != view->bytes) {
      return invalid("tensor {}: {} bytes, expected shape times {}", in_quotes(*name), view->bytes,
                     type_name(view->type));
    }
    header[*name] = {
        {"dtype", type_name(view->type)}, {"shape", view->shape}, {"data_offsets", {at_byte, at_byte + view->bytes}}};
    at_byte += view->bytes;
  }
  try {
    std::string text = header.dump();
    const std::size_t whole = (text.size() + kLengthBytes + kAlignment - 1) / kAlignment * kAlignment;
    text.resize(whole - kLengthBytes, ' ');
    return text;
  } catch (const nlohmann::json::exception& error) {  // a name that is not UTF-8
    return invalid("header: {}", message_of(error));
  }
}

}  // namespace

Status write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors,
                         const std::map<std::string, std::string>& metadata) {
  const std::vector<Order> order = order_of(tensors);
  const auto header = header_text(order, metadata);
  if (!header.ok()) return at(path, header.status());
  const std::string unfinished = path + ".unfinished";
  File file(std::fopen(unfinished.c_str(), "wbe"), std::fclose);
  if (!file) return invalid("{}: can't be written ({})", unfinished, std::strerror(errno));

  std::array<unsigned char, kLengthBytes> length{};
  for (std::size_t i = 0; i < kLengthBytes; ++i)
    length[i] = static_cast<unsigned char>(header.value().size() >> (8 * i));
  bool good = write_all(file.get(), length.data(), length.size()) &&
              write_all(file.get(), header.value().data(), header.value().size());
  for (const auto& [name, view] : order) good = good && write_all(file.get(), view->data, view->bytes);
  good = std::fclose(file.release()) == 0 && good;
  if (good && std::rename(unfinished.c_str(), path.c_str()) == 0) return {};
  const Status status = invalid("{}: can't be written ({})", path, std::strerror(errno));
  std::remove(unfinished.c_str());
  return status;
}

}  // namespace blockmoe::workload
