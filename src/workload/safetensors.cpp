#include "workload/safetensors.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "workload/error.hpp"
#include "workload/json.hpp"

namespace blockmoe::workload {
namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr const char* kMetadata = "__metadata__";

struct TypeRow {
  std::string_view name;
  std::size_t bytes;
};

// In the order of ElementType.
constexpr std::array<TypeRow, 16> kTypes = {{{"BOOL", 1},
                                             {"U8", 1},
                                             {"I8", 1},
                                             {"F8_E5M2", 1},
                                             {"F8_E4M3", 1},
                                             {"F8_E8M0", 1},
                                             {"I16", 2},
                                             {"U16", 2},
                                             {"F16", 2},
                                             {"BF16", 2},
                                             {"I32", 4},
                                             {"U32", 4},
                                             {"F32", 4},
                                             {"I64", 8},
                                             {"U64", 8},
                                             {"F64", 8}}};

std::optional<ElementType> type_of(std::string_view name) {
  for (std::size_t i = 0; i < kTypes.size(); ++i) {
    if (kTypes[i].name == name) return static_cast<ElementType>(i);
  }
  return std::nullopt;
}

struct Entry {
  TensorView view;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

// Takes the header's JSON event by event and refuses whatever the format does not allow where it stands, so that a
// hostile header costs no more than its own length.
class Header final : public nlohmann::json_sax<Json> {
 public:
  std::map<std::string, Entry> entries;
  std::map<std::string, std::string> metadata;
  std::string error;  // of the first thing refused

  bool null() override { return refuse("null"); }
  bool boolean(bool) override { return refuse("a boolean"); }
  bool number_integer(number_integer_t value) override { return refuse(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { return refuse(text); }
  bool binary(binary_t&) override { return refuse("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::shape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return refuse(std::to_string(value));
      entry_.view.shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (state_ == State::offsets && offsets_seen_ < 2) {
      (offsets_seen_++ == 0 ? entry_.begin : entry_.end) = value;
      return true;
    }
    return refuse(std::to_string(value));
  }

  bool string(string_t& value) override {
    if (state_ == State::metadata_value) {
      metadata[field_] = value;
      state_ = State::metadata;
      return true;
    }
    if (state_ != State::dtype) return refuse("a string");
    const auto type = type_of(value);
    if (!type) return fail(fmt::format("dtype {}, expected one of {}", in_quotes(value), type_names()));
    entry_.view.type = *type;
    has_dtype_ = true;
    state_ = State::entry;
    return true;
  }

  bool start_object(std::size_t) override {
    if (state_ == State::start) {
      state_ = State::top;
    } else if (state_ == State::entry_value) {
      state_ = tensor_ == kMetadata ? State::metadata : State::entry;
      entry_ = Entry();
      has_dtype_ = has_shape_ = has_offsets_ = false;
      offsets_seen_ = 0;
    } else {
      return refuse("an object");
    }
    return true;
  }

  bool key(string_t& name) override {
    switch (state_) {
      case State::top:
        if (name == kMetadata ? std::exchange(has_metadata_, true) : entries.contains(name)) {
          return fail(fmt::format("{} stands twice", in_quotes(name)));
        }
        tensor_ = name;
        state_ = State::entry_value;
        return true;
      case State::metadata:
        if (metadata.contains(name)) return fail(fmt::format("key {} stands twice", in_quotes(name)));
        field_ = name;
        state_ = State::metadata_value;
        return true;
      default:
        return field(name);
    }
  }

  bool start_array(std::size_t) override {
    if (state_ == State::shape_value) {
      state_ = State::shape;
    } else if (state_ == State::offsets_value) {
      state_ = State::offsets;
    } else {
      return refuse("an array");
    }
    return true;
  }

  bool end_array() override {
    if (state_ == State::offsets && offsets_seen_ != 2) return fail("data_offsets has less than 2 numbers");
    (state_ == State::shape ? has_shape_ : has_offsets_) = true;
    state_ = State::entry;
    return true;
  }

  bool end_object() override {
    if (state_ == State::entry) {
      if (!has_dtype_ || !has_shape_ || !has_offsets_) {
        return fail(fmt::format("{} is not there", !has_dtype_ ? "dtype" : !has_shape_ ? "shape" : "data_offsets"));
      }
      entries.emplace(tensor_, std::move(entry_));
    }
    tensor_.clear();
    state_ = state_ == State::top ? State::done : State::top;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& exception) override {
    return fail(message_of(exception));
  }

 private:
  // What comes next.
  enum class State {
    start,
    top,
    done,
    entry_value,
    entry,
    dtype,
    shape_value,
    shape,
    offsets_value,
    offsets,
    metadata,
    metadata_value
  };

  static std::string type_names() {
    std::string names;
    for (const TypeRow& type : kTypes) names.append(names.empty() ? "" : ", ").append(type.name);
    return names;
  }

  bool field(const std::string& name) {
    const std::pair<const char*, State> fields[] = {
        {"dtype", State::dtype}, {"shape", State::shape_value}, {"data_offsets", State::offsets_value}};
    const bool seen[] = {has_dtype_, has_shape_, has_offsets_};
    for (std::size_t i = 0; i < 3; ++i) {
      if (name != fields[i].first) continue;
      if (seen[i]) return fail(fmt::format("{} stands twice", name));
      state_ = fields[i].second;
      return true;
    }
    return fail(fmt::format("key {}, expected dtype, shape or data_offsets", in_quotes(name)));
  }

  bool fail(const std::string& what) {
    if (error.empty()) error = place() + what;
    return false;
  }

  bool refuse(const std::string& what) {
    const char* expected = "";
    switch (state_) {
      case State::start:
        expected = "an object";
        break;
      case State::entry_value:
        expected = "an object";
        break;
      case State::dtype:
        expected = "a string as dtype";
        break;
      case State::shape_value:
        expected = "an array as shape";
        break;
      case State::shape:
        expected = "sizes of 0..2^63-1 in shape";
        break;
      case State::offsets_value:
        expected = "an array as data_offsets";
        break;
      case State::offsets:
        expected = "two offsets of 0..2^64-1 in data_offsets";
        break;
      case State::metadata_value:
        expected = "a string as metadata";
        break;
      default:
        expected = "a key";
        break;  // not reached: after '{' the parser itself insists on a key
    }
    return fail(fmt::format("{}, expected {}", what, expected));
  }

  std::string place() const {
    if (tensor_.empty()) return "header: ";
    return tensor_ == kMetadata ? std::string("__metadata__: ") : fmt::format("tensor {}: ", in_quotes(tensor_));
  }

  State state_ = State::start;
  std::string tensor_;  // whose entry is open; empty between entries
  std::string field_;   // the metadata key that waits for its value
  Entry entry_;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  bool has_metadata_ = false;
  int offsets_seen_ = 0;
};

// Bytes that the shape says, or nothing where 64 bits don't hold them.
std::optional<std::uint64_t> bytes_of(const TensorView& view) {
  std::uint64_t bytes = type_bytes(view.type);
  for (const std::int64_t size : view.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes)) return std::nullopt;
  }
  return bytes;
}

// Every tensor within the data, none over another, nothing between them.
Status check_layout(const std::map<std::string, Entry>& entries, std::uint64_t data_bytes) {
  std::vector<std::pair<const std::string*, const Entry*>> ordered;
  for (const auto& [name, entry] : entries) {
    if (entry.begin > entry.end || entry.end > data_bytes) {
      return invalid("tensor {}: data_offsets [{}, {}], expected within the file's {} bytes of data", in_quotes(name),
                     entry.begin, entry.end, data_bytes);
    }
    const auto bytes = bytes_of(entry.view);
    if (!bytes) return invalid("tensor {}: the product of its shape is beyond 64 bits", in_quotes(name));
    if (*bytes != entry.end - entry.begin) {
      return invalid("tensor {}: data_offsets hold {} bytes, expected {} (shape times {})", in_quotes(name),
                     entry.end - entry.begin, *bytes, type_name(entry.view.type));
    }
    ordered.emplace_back(&name, &entry);
  }
  std::sort(ordered.begin(), ordered.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  std::uint64_t expected = 0;
  for (const auto& [name, entry] : ordered) {
    if (entry->begin < expected)
      return invalid("tensor {}: begins at {}, inside the tensor before it (to {})", in_quotes(*name), entry->begin,
                     expected);
    if (entry->begin > expected)
      return invalid("tensor {}: begins at {}, after a hole from {}", in_quotes(*name), entry->begin, expected);
    expected = entry->end;
  }
  if (expected != data_bytes) {
    return invalid("tensors end at {}, expected at the end of the {} bytes of data", expected, data_bytes);
  }
  return {};
}

std::uint64_t little_endian(const std::byte* bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

Result<Header> read_header(const std::byte* bytes, std::size_t size) {
  if (size < kLengthBytes) return invalid("{} bytes, expected at least {} (truncated?)", size, kLengthBytes);
  const std::uint64_t length = little_endian(bytes);
  if (length > kMaxHeaderBytes) return invalid("header of {} bytes, expected at most {}", length, kMaxHeaderBytes);
  if (length > size - kLengthBytes) {
    return invalid("header of {} bytes, expected at most the {} that follow (truncated?)", length, size - kLengthBytes);
  }
  const char* text = reinterpret_cast<const char*>(bytes) + kLengthBytes;
  if (length == 0 || *text != '{') return invalid("header does not begin with '{{'");
  Header header;
  if (!Json::sax_parse(text, text + length, &header)) return invalid("{}", header.error);
  if (Status status = check_layout(header.entries, size - kLengthBytes - length); !status.ok()) return status;
  for (auto& [name, entry] : header.entries) {
    entry.view.data = bytes + kLengthBytes + length + entry.begin;
    entry.view.bytes = entry.end - entry.begin;
  }
  return header;
}

struct Descriptor {
  int fd;
  explicit Descriptor(int number) : fd(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

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
  for (const auto& [name, view] : tensors) order.push_back({&name, &view});
  std::stable_sort(order.begin(), order.end(),
                   [](const Order& a, const Order& b) { return type_bytes(a.view->type) > type_bytes(b.view->type); });
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

std::string_view type_name(ElementType type) {
  return kTypes[static_cast<std::size_t>(type)].name;
}
std::size_t type_bytes(ElementType type) {
  return kTypes[static_cast<std::size_t>(type)].bytes;
}

Result<SafetensorsFile> SafetensorsFile::parse(const std::byte* bytes, std::size_t size, const std::string& name) {
  auto header = read_header(bytes, size);
  if (!header.ok()) return at(name, header.status());
  SafetensorsFile file;
  file.name_ = name;
  for (auto& [tensor, entry] : header.value().entries) file.tensors_.emplace(tensor, std::move(entry.view));
  file.metadata_ = std::move(header.value().metadata);
  return file;
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) return invalid("{}: can't be opened ({})", path, std::strerror(errno));
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) return invalid("{}: can't be read ({})", path, std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return invalid("{}: is not a regular file", path);
  const auto size = static_cast<std::size_t>(info.st_size);
  if (size == 0) return invalid("{}: 0 bytes, expected at least {} (truncated?)", path, kLengthBytes);
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (memory == MAP_FAILED) return invalid("{}: can't be mapped ({})", path, std::strerror(errno));
  const std::shared_ptr<const void> mapping(memory, [size](void* p) { ::munmap(p, size); });
  auto parsed = parse(static_cast<const std::byte*>(memory), size, path);
  if (parsed.ok()) parsed.value().mapping_ = mapping;
  return parsed;
}

Result<TensorView> SafetensorsFile::find(const std::string& tensor) const {
  const auto found = tensors_.find(tensor);
  if (found == tensors_.end()) return invalid("{}: tensor {}: is not there", name_, in_quotes(tensor));
  return found->second;
}

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
