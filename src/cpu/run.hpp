#pragma once

#include "cpu/call.hpp"

namespace blockmoe::cpu {

/// All stages of a call, one after the other.
void run(const Call& call);

}  // namespace blockmoe::cpu
