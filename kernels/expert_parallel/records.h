// records.h: the kernels around an exchange between ranks (src/ep): tokens into records, records into what the operator takes,
// and the sum of the parts that come back. Each launch returns what the runtime refused; none waits.
#pragma once

#include <cstdint>

#include "contract/call.h"
#include "expert_parallel/record.h"
#include "operator.h"

namespace blockmoe::kernels::expert_parallel {

// Loads the kernels on the current device.
Error prepare();

// The call's tokens and their picks [T, K] -> records [slots]. `dependent`: it may start before the kernel ahead, which makes the
// picks, has ended (sm_90).
Error launch_pack(const RecordLayout& layout, const contract::Activations& activations,
                  const contract::RoutedPicks& picks, std::int64_t slots, void* records, bool dependent, void* stream);

// records [M] -> scales [H/128, M], and ids [M, K]: first_local + the local number of each pick that rank `me` computes, or -1.
// `dependent`: as above, of what brings the records.
Error launch_unpack(const RecordLayout& layout, const Run& run, const OwnerTable& table, std::int32_t me,
                    std::int32_t first_local, const void* records, float* scales, std::int32_t* ids, bool dependent,
                    void* stream);

// output[t] = the sum of all ranks' parts of token t, in rank order, from 0: own [T, H] is rank `me`'s, back is the others'
// (part_row()). Rounded once where the output is bf16. `dependent`: as above, of what brings the parts.
struct SumParams {
  std::int64_t tokens = 0;
  std::int64_t hidden = 0;
  std::int64_t piece_slots = 0;
  std::int32_t me = 0;
  std::int32_t ranks = 0;
  const float* own = nullptr;
  const float* back = nullptr;
  void* output = nullptr;
  contract::FloatType output_type = contract::FloatType::bf16;
  std::int64_t output_pitch = 0;
};
Error launch_sum(const SumParams& params, bool dependent, void* stream);

}  // namespace blockmoe::kernels::expert_parallel
