// buffers.cpp: see buffers.hpp.
#include "ep/buffers.hpp"

namespace blockmoe::ep {

BufferOffsets buffer_offsets(const contract::Geometry& layer, std::int32_t ranks, std::int64_t slots,
                             std::size_t plan_bytes) {
  constexpr std::int64_t kAlignment = 256;
  auto next = round_up(static_cast<std::int64_t>(plan_bytes), kAlignment);
  const auto place = [&next](std::int64_t bytes) {
    const std::int64_t at = next;
    next = round_up(next + bytes, kAlignment);
    return static_cast<std::size_t>(at);
  };
  const std::int64_t record = kernels::expert_parallel::record_layout(layer).bytes;
  const std::int64_t all = ranks * slots;
  BufferOffsets o;
  o.ids = place(slots * layer.top_k * 4);
  o.weights = place(slots * layer.top_k * 4);
  o.records = place(slots * record);
  o.received = place(all * record);
  o.scales = place(all * layer.hidden_blocks() * 4);
  o.local_ids = place(all * layer.top_k * 4);
  o.parts = place(all * layer.hidden * 4);
  o.back = place((all - slots) * layer.hidden * 4);
  o.bytes = static_cast<std::size_t>(next);
  return o;
}

OperatorCall piece_of_exchange(std::int32_t ranks, std::int32_t me, std::int64_t slots, std::int32_t pieces,
                               std::int32_t piece) {
  OperatorCall call;
  const std::int64_t of_piece = slots / pieces;
  call.run = {0, me, piece * of_piece, of_piece, ranks - 1};
  call.first_record = piece * call.run.records();
  return call;
}

OperatorCall own_of_exchange(std::int32_t ranks, std::int32_t me, std::int64_t slots, std::int32_t half) {
  const std::int64_t first = slots / 2;
  OperatorCall call;
  call.run = half == 0 ? kernels::expert_parallel::Run{me, -1, 0, first, 1}
                       : kernels::expert_parallel::Run{me, -1, first, slots - first, 1};
  call.first_record = (ranks - 1) * slots + call.run.first_token;
  call.own = true;
  return call;
}

OperatorCall all_of_gather(std::int32_t ranks, std::int64_t slots) {
  OperatorCall call;
  call.run = {0, -1, 0, slots, ranks};
  return call;
}

}  // namespace blockmoe::ep
