// product.hpp: a path's block product alone, on operands in cache, by one thread.
#pragma once

#include <vector>

#include "cpu/instruction_set.hpp"

namespace blockmoe::bench {

struct ProductTimes {
  struct Row {
    int rows;
    double decode_activations;  ///< seconds
    double multiply;            ///< seconds, promotion included
  };
  double decode_panel = 0;  ///< seconds a panel of 64 weight rows x 128
  std::vector<Row> rows;
};

/// Each time is the smallest of many runs of some microseconds, which a busy machine disturbs little.
ProductTimes time_product(cpu::InstructionSet set);

}  // namespace blockmoe::bench
