// instruction_set.hpp: which of the products' implementations this machine can run.
#pragma once

#include <string_view>

namespace blockmoe::cpu {

/// In order of preference, the last is the fastest.
enum class InstructionSet {
  plain,        ///< C++ alone, for processors other than x86; on x86 it needs avx2, for which lanes.cpp is compiled
  avx2,         ///< AVX2 and FMA
  avx512_bf16,  ///< AVX-512 F, BW, DQ, VL, VBMI and BF16
  amx,          ///< the same, and AMX tiles of bf16 that the kernel lets this process use
};

/// "plain", "avx2", "avx512_bf16", "amx".
std::string_view name_of(InstructionSet set);

/// Whether this machine, its operating system and this build run `set`. For `amx` the first call asks the kernel for the
/// tiles' state, once for the process, as Linux wants it.
bool is_available(InstructionSet set);

/// The fastest one that is available; `plain` where none is.
InstructionSet best_instruction_set();

}  // namespace blockmoe::cpu
