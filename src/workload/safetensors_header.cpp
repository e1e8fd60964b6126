#include "workload/safetensors_header.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "workload/error.hpp"
#include "workload/json.hpp"

namespace blockmoe::workload {
namespace {

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
class HeaderParser final : public nlohmann::json_sax<Json> {
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

}  // namespace

std::string_view type_name(ElementType type) {
  return kTypes[static_cast<std::size_t>(type)].name;
}
std::size_t type_bytes(ElementType type) {
  return kTypes[static_cast<std::size_t>(type)].bytes;
}

std::optional<std::uint64_t> bytes_of(const TensorView& view) {
  std::uint64_t bytes = type_bytes(view.type);
  for (const std::int64_t size : view.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes)) return std::nullopt;
  }
  return bytes;
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
  HeaderParser parser;
  if (!Json::sax_parse(text, text + length, &parser)) return invalid("{}", parser.error);
  if (Status status = check_layout(parser.entries, size - kLengthBytes - length); !status.ok()) return status;
  Header header;
  header.metadata = std::move(parser.metadata);
  for (auto& [name, entry] : parser.entries) {
    entry.view.data = bytes + kLengthBytes + length + entry.begin;
    entry.view.bytes = entry.end - entry.begin;
    header.tensors.emplace(name, std::move(entry.view));
  }
  return header;
}

}  // namespace blockmoe::workload
