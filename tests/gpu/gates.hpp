// gates.hpp: how far a whole call on a GPU may be from the FP64 oracle.
#pragma once

#include "operator.h"
#include "verify/compare.hpp"

namespace blockmoe::test {

/// For layers of 512 x 1024 and more. One row scatters by a fifth around what one requantisation costs on average, which the
/// contract's second gate speaks of. hopper's short sums exceed the first gate on some calls of few rows: by half at T = 1 of
/// the benchmark.
inline verify::Gates gates_of(kernels::Path path) {
  verify::Gates gates = verify::kTensorCoreGates;
  gates.plain *= 1.2;
  if (path == kernels::Path::hopper) gates.requantised *= 3;
  return gates;
}

/// In a layer of a few blocks each code weighs more: the plain form scatters up to twice its gate, and one code that wgmma's
/// short sums flipped moves the requantised form.
inline verify::Gates gates_of_narrow_layers(kernels::Path path) {
  verify::Gates gates = verify::kTensorCoreGates;
  gates.plain *= 2;
  if (path == kernels::Path::hopper) gates.requantised *= 4;
  return gates;
}

/// Of a call whose intermediate has two terms: no code that flips weighs anything, on any path.
inline verify::Gates two_term_gates() {
  verify::Gates gates = verify::kTwoTermGates;
  gates.requantised *= 1.2;
  return gates;
}

/// A layer of a few blocks has few values, whose rounding to bf16 scatters too.
inline verify::Gates two_term_gates_of_narrow_layers() {
  verify::Gates gates = verify::kTwoTermGates;
  gates.requantised *= 2;
  gates.plain *= 1.2;
  return gates;
}

}  // namespace blockmoe::test
