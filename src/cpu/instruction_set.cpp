#include "cpu/instruction_set.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#endif

namespace blockmoe::cpu {
namespace {

#if defined(__x86_64__)

constexpr bool all_of(std::uint32_t word, std::uint32_t bits) {
  return (word & bits) == bits;
}
constexpr std::uint32_t bit(int n) {
  return std::uint32_t{1} << n;
}

struct Leaf {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  Leaf r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

// XCR0: the register files that the operating system saves.
std::uint32_t saved_state() {
  if (!all_of(cpuid(1, 0).ecx, bit(27))) return 0;  // OSXSAVE: xgetbv may be executed
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

constexpr std::uint32_t kSavesYmm = bit(1) | bit(2);
constexpr std::uint32_t kSavesZmm = kSavesYmm | bit(5) | bit(6) | bit(7);
constexpr std::uint32_t kSavesTiles = bit(17) | bit(18);

bool has_avx2() {
  constexpr std::uint32_t kFma = bit(12), kAvx = bit(28), kAvx2 = bit(5);
  return all_of(saved_state(), kSavesYmm) && all_of(cpuid(1, 0).ecx, kFma | kAvx) && all_of(cpuid(7, 0).ebx, kAvx2);
}

bool has_plain() {
  return has_avx2();
}

bool has_avx512_bf16() {
  constexpr std::uint32_t kF = bit(16), kDq = bit(17), kBw = bit(30), kVl = bit(31);
  constexpr std::uint32_t kVbmi = bit(1);
  constexpr std::uint32_t kBf16 = bit(5);
  return has_avx2() && all_of(saved_state(), kSavesZmm) && all_of(cpuid(7, 0).ebx, kF | kDq | kBw | kVl) &&
         all_of(cpuid(7, 0).ecx, kVbmi) && all_of(cpuid(7, 1).eax, kBf16);
}

// Linux gives a process the 8 KiB of tile registers only when asked (since 5.16; before, XCR0 shows no tiles).
bool ask_for_tiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool has_amx() {
  constexpr std::uint32_t kBf16 = bit(22), kTile = bit(24);
  static const bool usable = has_avx512_bf16() && all_of(saved_state(), kSavesTiles) &&
                             all_of(cpuid(7, 0).edx, kBf16 | kTile) && ask_for_tiles();
  return usable;
}

#else

bool has_plain() {
  return true;
}
bool has_avx2() {
  return false;
}
bool has_avx512_bf16() {
  return false;
}
bool has_amx() {
  return false;
}

#endif

}  // namespace

std::string_view name_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::plain:
      return "plain";
    case InstructionSet::avx2:
      return "avx2";
    case InstructionSet::avx512_bf16:
      return "avx512_bf16";
    case InstructionSet::amx:
      return "amx";
  }
  return "";
}

bool is_available(InstructionSet set) {
  switch (set) {
    case InstructionSet::plain:
      return has_plain();
    case InstructionSet::avx2:
      return has_avx2();
    case InstructionSet::avx512_bf16:
      return has_avx512_bf16();
    case InstructionSet::amx:
      return has_amx();
  }
  return false;
}

InstructionSet best_instruction_set() {
  for (const InstructionSet set : {InstructionSet::amx, InstructionSet::avx512_bf16, InstructionSet::avx2}) {
    if (is_available(set)) return set;
  }
  return InstructionSet::plain;
}

}  // namespace blockmoe::cpu
