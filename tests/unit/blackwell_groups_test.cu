// The plain structs that the argument kernel writes (kernels/blackwell/groups.h) have, field for field, the bytes of the types that CUTLASS
// reads in their place. On the host; in builds that have CUTLASS's headers.
#include <cutlass/cutlass.h>
#include <cute/tensor.hpp>
#include <cutlass/detail/blockwise_scale_layout.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>

#include "blackwell/groups.h"

namespace blockmoe::kernels::blackwell {
namespace {

// Of activations a scale a row and 128 values, rows fast; of weights one for 128 x 128, K fast.
using Straight = cutlass::detail::Sm100BlockwiseScaleConfig<1, 128, 128, cute::UMMA::Major::MN, cute::UMMA::Major::K>;
using Swapped = cutlass::detail::Sm100BlockwiseScaleConfig<128, 1, 128, cute::UMMA::Major::K, cute::UMMA::Major::MN>;

constexpr int kRows = 36, kColumns = 768, kDepth = 1280;
constexpr ScaleLayout kActivations = {kRows, kDepth / 128, 1, kRows, kRows * (kDepth / 128)};
constexpr ScaleLayout kWeights = {kColumns / 128, kDepth / 128, 1, kDepth / 128, kColumns / 128 * (kDepth / 128)};

template <typename Theirs, typename Ours>
void expect_same_bytes(const Theirs& theirs, const Ours& ours) {
  static_assert(sizeof(Theirs) == sizeof(Ours));
  EXPECT_EQ(0, std::memcmp(&theirs, &ours, sizeof ours));
}

TEST(BlackwellGroups, scales_of_straight_tiles) {
  const auto shape = cute::make_shape(kRows, kColumns, kDepth, 1);
  expect_same_bytes(Straight::tile_atom_to_shape_SFA(shape), kActivations);
  expect_same_bytes(Straight::tile_atom_to_shape_SFB(shape), kWeights);
}

TEST(BlackwellGroups, scales_of_swapped_tiles) {
  const auto shape = cute::make_shape(kColumns, kRows, kDepth, 1);
  expect_same_bytes(Swapped::tile_atom_to_shape_SFA(shape), kWeights);
  expect_same_bytes(Swapped::tile_atom_to_shape_SFB(shape), kActivations);
}

TEST(BlackwellGroups, a_scale_is_where_the_layout_says) {
  const auto layout = Straight::tile_atom_to_shape_SFA(cute::make_shape(kRows, kColumns, kDepth, 1));
  EXPECT_EQ(layout(cute::make_coord(0, 5), cute::make_coord(0, 3), 0), 5 + 3 * kActivations.pitch);
  const auto weights = Straight::tile_atom_to_shape_SFB(cute::make_shape(kRows, kColumns, kDepth, 1));
  EXPECT_EQ(weights(cute::make_coord(17, 5), cute::make_coord(40, 3), 0), 5 * kWeights.pitch + 3);
}

TEST(BlackwellGroups, shapes_and_strides) {
  expect_same_bytes(cute::Shape<int, int, int>(1, 2, 3), GroupShape{1, 2, 3});
  expect_same_bytes(cute::make_stride(std::int64_t{kDepth}, cute::_1(), cute::_0()), std::int64_t{kDepth});
  expect_same_bytes(cute::make_stride(cute::_1(), std::int64_t{kColumns}, cute::_0()), std::int64_t{kColumns});
}

}  // namespace
}  // namespace blockmoe::kernels::blackwell
