// expert_parallel_test.cpp: what of a layer over several ranks is arithmetic: where records and parts lie, who owns an expert, what
// must agree, and what the cost model says. The kernels and whole groups: tests/gpu/expert_parallel_test.cpp.
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "blockmoe/blockmoe.hpp"
#include "ep/buffers.hpp"
#include "ep/cost_model.hpp"
#include "ep/expert_map.hpp"
#include "ep/setup.hpp"
#include "expert_parallel/record.h"

namespace blockmoe::test {
namespace {

namespace records = kernels::expert_parallel;

TEST(EpRecord, parts_of_a_record_follow_each_other_and_are_aligned) {
  for (const std::int32_t top_k : {1, 3, 8, 32}) {
    contract::Geometry g;
    g.top_k = top_k;
    const records::RecordLayout layout = records::record_layout(g);
    EXPECT_EQ(layout.ids_at, 7168 + 56 * 4);
    EXPECT_EQ(layout.weights_at, layout.ids_at + top_k * 4);
    EXPECT_GE(layout.bytes, layout.weights_at + top_k * 4);
    EXPECT_EQ(layout.bytes % 16, 0);  // the pitch that hidden_states may have
  }
}

// Every token of every rank is computed by each rank exactly once, and each part has a place of its own.
TEST(EpBuffers, an_exchange_covers_every_token_once) {
  for (const std::int32_t ranks : {1, 2, 3, 8}) {
    for (const std::int32_t pieces : {1, 2, 4}) {
      constexpr std::int64_t kSlots = 12;
      for (std::int32_t me = 0; me < ranks; ++me) {
        std::set<std::pair<std::int32_t, std::int64_t>> seen;
        std::set<std::int64_t> rows;
        std::vector<ep::OperatorCall> calls = {ep::own_of_exchange(ranks, me, kSlots, 0)};
        for (std::int32_t p = 0; p < pieces && ranks > 1; ++p) {
          calls.push_back(ep::piece_of_exchange(ranks, me, kSlots, pieces, p));
        }
        calls.push_back(ep::own_of_exchange(ranks, me, kSlots, 1));
        for (const ep::OperatorCall& call : calls) {
          for (std::int64_t i = 0; i < call.run.records(); ++i) {
            EXPECT_EQ(call.run.rank_of(i) == me, call.own);
            EXPECT_TRUE(seen.emplace(call.run.rank_of(i), call.run.token_of(i)).second);
            EXPECT_TRUE(rows.insert(call.first_record + i).second);
          }
        }
        EXPECT_EQ(static_cast<std::int64_t>(seen.size()), ranks * kSlots);
        EXPECT_EQ(*rows.rbegin(), ranks * kSlots - 1);
      }
    }
  }
}

// A piece of what one rank sends back is one run of rows at its owner, as a message needs it.
TEST(EpBuffers, a_part_comes_back_to_a_place_of_its_own) {
  constexpr std::int32_t kRanks = 4;
  constexpr std::int64_t kSlots = 8;
  for (const std::int64_t piece_slots : {8, 4, 2}) {
    std::set<std::int64_t> rows;
    for (std::int32_t rank = 0; rank < kRanks; ++rank) {
      if (rank == 1) continue;
      for (std::int64_t token = 0; token < kSlots; ++token) {
        const std::int64_t row = records::part_row(token, rank, 1, kRanks, piece_slots);
        EXPECT_TRUE(rows.insert(row).second);
        if (token % piece_slots == 0) continue;
        EXPECT_EQ(row, records::part_row(token - 1, rank, 1, kRanks, piece_slots) + 1);
      }
    }
    EXPECT_EQ(*rows.rbegin(), (kRanks - 1) * kSlots - 1);
  }
}

TEST(EpBuffers, nothing_overlaps_and_all_is_aligned) {
  const contract::Geometry g;
  const ep::BufferOffsets o = ep::buffer_offsets(g, 2, 100, 1000);
  const std::vector<std::size_t> places = {o.ids,    o.weights,   o.records, o.received,
                                           o.scales, o.local_ids, o.parts,   o.back};
  const std::size_t record = 7456;
  const std::vector<std::size_t> bytes = {3200,      3200, 100 * record, 200 * record,
                                          200 * 224, 6400, 200 * 28672,  100 * 28672};
  EXPECT_GE(places[0], 1000U);
  for (std::size_t i = 0; i < places.size(); ++i) {
    EXPECT_EQ(places[i] % 256, 0U);
    EXPECT_LE(places[i] + bytes[i], i + 1 < places.size() ? places[i + 1] : o.bytes);
  }
}

TEST(EpMap, consecutive_experts_have_one_owner_each) {
  const auto lists = ep::owner_lists({ep::consecutive_experts(0, 4), ep::consecutive_experts(1, 4)}, 8);
  ASSERT_TRUE(lists.ok()) << lists.status().message();
  for (std::int32_t e = 0; e < 8; ++e) {
    const records::Owner owner = records::owner_of(lists.value().table(), e, 5, 77);
    EXPECT_EQ(owner.rank, e / 4);
    EXPECT_EQ(owner.slot, e % 4);
  }
}

// Expert 1 on ranks 0 and 2: token t of rank s goes to owner (s + t) mod 2.
TEST(EpMap, a_replicated_experts_tokens_take_its_owners_in_turn) {
  const auto lists = ep::owner_lists({{1, 0}, {2, 3}, {4, 1}}, 5);
  ASSERT_TRUE(lists.ok()) << lists.status().message();
  const records::OwnerTable table = lists.value().table();
  for (std::int32_t rank = 0; rank < 3; ++rank) {
    for (std::int64_t token = 0; token < 4; ++token) {
      const records::Owner owner = records::owner_of(table, 1, rank, token);
      const bool first = (rank + token) % 2 == 0;
      EXPECT_EQ(owner.rank, first ? 0 : 2);
      EXPECT_EQ(owner.slot, first ? 0 : 1);
    }
  }
}

TEST(EpMap, a_wrong_map_is_named) {
  const auto message = [](const std::vector<std::vector<std::int32_t>>& experts) {
    return ep::owner_lists(experts, 4).status().message();
  };
  EXPECT_EQ(message({{0, 1}, {2, 4}}), "expert_map: expert 4 at 1 of rank 1, expected 0 to 3");
  EXPECT_EQ(message({{0, -1}, {2, 3}}), "expert_map: expert -1 at 1 of rank 0, expected 0 to 3");
  EXPECT_EQ(message({{0, 1, 0}, {2, 3}}), "expert_map: expert 0 twice on rank 0, expected once at most");
  EXPECT_EQ(message({{0, 1}, {2, 1}}), "expert_map: expert 3 on no rank, expected every expert on a rank");
}

TEST(EpSetup, what_differs_is_named_with_both_values) {
  api::PlanRequest layer;
  layer.max_tokens = 64;
  EpOptions options;
  const auto describe = [&] {
    ep::Description description;
    const auto fields = ep::agreed_fields(layer, options);
    for (std::size_t i = 0; i < fields.size(); ++i) description.agreed[i] = fields[i].value;
    return description;
  };
  const auto names = ep::agreed_fields(layer, options);
  const ep::Description first = describe();
  EXPECT_TRUE(ep::check_agreement({first, first, first}, names).ok());
  layer.max_tokens = 65;
  EXPECT_EQ(ep::check_agreement({first, first, describe()}, names).message(),
            "max_tokens: 64 on rank 0, 65 on rank 2, expected the same on every rank");
  layer.max_tokens = 64;
  layer.geometry.local_experts = 16;
  EXPECT_EQ(ep::check_agreement({first, describe()}, names).message(),
            "layer.local_experts: 32 on rank 0, 16 on rank 1, expected the same on every rank");
  layer.geometry.local_experts = 32;
  options.way = EpWay::exchange;
  EXPECT_EQ(ep::check_agreement({first, describe()}, names).message(),
            "ep_options.way: 0 on rank 0, 2 on rank 1, expected the same on every rank");
}

TEST(EpSetup, every_option_that_moves_a_bit_must_agree) {
  struct Case {
    void (*change)(Options&);
    const char* message;
  };
  const Case cases[] = {
      {[](Options& o) { o.gate_first = true; }, "options.gate_first: 0 on rank 0, 1 on rank 1"},
      {[](Options& o) { o.pruning.max_local_picks = 3; }, "options.pruning.max_local_picks: 0 on rank 0, 3 on rank 1"},
      {[](Options& o) { o.batch_invariant = true; }, "options.batch_invariant: 0 on rank 0, 1 on rank 1"},
      {[](Options& o) { o.intermediate_type = IntermediateType::e4m3x2; },
       "options.intermediate_type: 0 on rank 0, 1 on rank 1"},
      {[](Options& o) { o.policy = Policy::trtllm; }, "options.policy: 0 on rank 0, 3 on rank 1"},
      {[](Options& o) { o.no_trtllm_gemm1 = 1; }, "options.no_trtllm_gemm1: 0 on rank 0, 1 on rank 1"},
      {[](Options& o) { o.no_trtllm_gemm2 = 1; }, "options.no_trtllm_gemm2: 0 on rank 0, 1 on rank 1"},
      {[](Options& o) { o.mma_gemm2_m_threshold = 7; }, "options.mma_gemm2_m_threshold: 0 on rank 0, 7 on rank 1"},
      {[](Options& o) { o.trtllm_gemm2_m_threshold = 9; },
       "options.trtllm_gemm2_m_threshold: 0 on rank 0, 9 on rank 1"},
  };
  const auto describe = [](const Options& options) {
    api::PlanRequest layer;
    layer.options = options;
    ep::Description description;
    const auto fields = ep::agreed_fields(layer, EpOptions());
    for (std::size_t i = 0; i < fields.size(); ++i) description.agreed[i] = fields[i].value;
    return description;
  };
  const auto names = ep::agreed_fields(api::PlanRequest(), EpOptions());
  for (const Case& one : cases) {
    Options other;
    one.change(other);
    EXPECT_EQ(ep::check_agreement({describe(Options()), describe(other)}, names).message(),
              one.message + std::string(", expected the same on every rank"));
  }
}

TEST(EpSetup, the_board_says_who_is_behind) {
  std::map<std::int32_t, std::int64_t> begun = {{0, 4}, {1, 3}, {2, 4}, {3, 0}};
  EpBoard board;
  EXPECT_EQ(ep::blame(board, 4, 4), "no board was given, so which rank is missing is not known");
  board.context = &begun;
  board.read = [](void* context, std::int32_t rank) {
    return static_cast<std::map<std::int32_t, std::int64_t>*>(context)->at(rank);
  };
  EXPECT_EQ(ep::blame(board, 4, 4), "rank 1 has begun 3 calls, expected 4, rank 3 has begun 0 calls, expected 4");
  EXPECT_EQ(ep::blame(board, 1, 4), "every rank has begun its call; one may have died since");
}

ep::EpSizes sizes(std::int32_t ranks, std::int64_t slots) {
  ep::EpSizes sizes;
  sizes.layer.local_experts = sizes.layer.experts / ranks;
  sizes.ranks = ranks;
  sizes.slots = slots;
  sizes.pieces = ep::choose_pieces(ranks, slots);
  return sizes;
}

TEST(EpCost, few_tokens_are_gathered_and_many_exchanged) {
  EXPECT_EQ(ep::choose_way(sizes(1, 8192)), EpWay::gather);
  EXPECT_EQ(ep::choose_way(sizes(2, 1)), EpWay::gather);
  EXPECT_EQ(ep::choose_way(sizes(2, 32)), EpWay::gather);
  EXPECT_EQ(ep::choose_way(sizes(2, 8192)), EpWay::exchange);
  EXPECT_EQ(ep::choose_way(sizes(8, 8192)), EpWay::exchange);
  EXPECT_EQ(ep::choose_way(sizes(32, 8192)), EpWay::exchange);
}

TEST(EpCost, pieces_keep_long_calls) {
  EXPECT_EQ(ep::choose_pieces(2, 1), 1);
  EXPECT_EQ(ep::choose_pieces(2, 4096), 1);
  EXPECT_EQ(ep::choose_pieces(2, 8192), 2);
  EXPECT_EQ(ep::choose_pieces(8, 8192), 4);
}

TEST(EpCost, a_call_costs_more_with_more_tokens_and_never_more_than_its_parts) {
  for (const EpWay way : {EpWay::gather, EpWay::exchange}) {
    for (const std::int32_t ranks : {2, 8, 32, 256}) {
      double before = 0;
      for (std::int64_t slots = 1; slots <= 8192; slots *= 2) {
        const ep::EpCost cost = ep::predict(way, sizes(ranks, slots), ep::link_of(ranks));
        EXPECT_GT(cost.total_us, before);
        EXPECT_LE(cost.total_us, cost.route_us + cost.exchange_us + cost.products_us + cost.return_us + 0.001);
        EXPECT_GT(cost.total_us, cost.products_us);
        before = cost.total_us;
      }
    }
  }
}

TEST(EpGroupCreate, says_what_is_missing_before_it_waits_for_anybody) {
  const Geometry layer;
  const DeviceInfo gpu = describe_device("sm_90a").value();
#if BLOCKMOE_WITH_CUDA
  EXPECT_EQ(EpGroup::create(layer, 16, gpu, nullptr).status().message(), "nccl_comm: null, expected an ncclComm_t");
  EXPECT_EQ(EpGroup::create(layer, 0, gpu, nullptr).status().message(), "max_tokens: 0, expected 1 to 16777216");
  EpOptions options;
  options.pieces = 9;
  EXPECT_EQ(EpGroup::create(layer, 16, gpu, nullptr, options).status().message(),
            "ep_options.pieces: 9, expected 0 to 8");
  options.pieces = 0;
  options.board.read = [](void*, std::int32_t) -> std::int64_t { return 0; };
  EXPECT_EQ(EpGroup::create(layer, 16, gpu, nullptr, options).status().message(),
            "ep_options.board: no post, expected both or neither");
  Options pruned;
  pruned.pruning.min_weight_share = 0.25F;
  EXPECT_EQ(
      EpGroup::create(layer, 16, gpu, nullptr, EpOptions(), pruned).status().message(),
      "options.pruning.min_weight_share: 0.25, expected 0 (a share is of all of a token's picks, and a rank of a group "
      "knows its own alone)");
  EXPECT_EQ(EpGroup::create(layer, 16, query_device({}).value(), nullptr).status().message(),
            "device: cpu, and NCCL connects CUDA devices");
#else
  EXPECT_EQ(EpGroup::create(layer, 16, gpu, nullptr).status().code(), StatusCode::unsupported);
#endif
}

}  // namespace
}  // namespace blockmoe::test
