// no_trtllm.cpp: the row of the TRTLLM adapter where this build has none.
#include "blackwell/products.h"

namespace blockmoe::kernels::blackwell {

ProductEntry trtllm_entry() {
  return {Implementation::trtllm,
          [](const Request&, std::string* why_not) {
            *why_not = "not in this build";
            return false;
          },
          [](const Request&) { return std::int32_t{4}; },
          [](plan::RowType type) { return type == plan::RowType::bf16; },
          [](const Request&, Product) { return std::string(); },
          [](const Request&) { return std::size_t{0}; },
          [](const Plan&, std::shared_ptr<const void>*) { return Error{}; },
          [](const ProductCall&, const void*, cudaStream_t) { return Error{}; }};
}

}  // namespace blockmoe::kernels::blackwell
