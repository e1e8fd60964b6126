#include "workload/safetensors.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "workload/error.hpp"
#include "workload/safetensors_header.hpp"

namespace blockmoe::workload {
namespace {

struct Descriptor {
  int fd;
  explicit Descriptor(int number) : fd(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

Result<SafetensorsFile> SafetensorsFile::parse(const std::byte* bytes, std::size_t size, const std::string& name) {
  auto header = read_header(bytes, size);
  if (!header.ok()) return at(name, header.status());
  SafetensorsFile file;
  file.name_ = name;
  file.tensors_ = std::move(header.value().tensors);
  file.metadata_ = std::move(header.value().metadata);
  return file;
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) return invalid("{}: can't be opened ({})", path, std::strerror(errno));
  struct stat info{};
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

}  // namespace blockmoe::workload
