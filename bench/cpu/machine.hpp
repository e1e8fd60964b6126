// machine.hpp: what the machine can do at best: its products' peak and its memory's read rate.
#pragma once

#include <cstddef>

#include "cpu/instruction_set.hpp"

namespace blockmoe::bench {

double seconds_now();

/// FLOP/s of `threads` threads that do nothing but the path's multiplying instruction; 0 for plain.
double peak_flops(cpu::InstructionSet set, int threads);

/// Bytes/s at which `threads` threads read `bytes` of memory once.
double read_rate(const void* data, std::size_t bytes, int threads);

}  // namespace blockmoe::bench
