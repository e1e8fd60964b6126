// grouped.cuh: one tile's grouped product by CUTLASS: rows [begin, K] x weights [N, K] transposed, a group an expert, e4m3 with a scale
// for 128 values of a row and one for each 128 x 128 block of the weights. Each K block of 128 is summed by tcgen05 and promoted in
// fp32: acc = fma(partial, row scale * weight scale, acc).
//
// Straight tiles have rows as M and weights as N. Swapped tiles have weights as M, of which there are always enough, and rows as N:
// few rows then cost a tile of 16 or 32. Either way the output lies in memory as [rows, N], N the fast axis.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <cuda_runtime.h>

#include <cutlass/cutlass.h>
#include <cute/tensor.hpp>
#include <cutlass/detail/blockwise_scale_layout.hpp>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/group_array_problem_shape.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>

#include "blackwell/cutlass/tiles.h"
#include "blackwell/groups.h"

namespace blockmoe::kernels::blackwell {

template <int kM, int kN, bool kTwoSms, bool kSwapped, typename Output>
struct Grouped {
  using Tile = cute::Shape<cute::Int<kM>, cute::Int<kN>, cute::_128>;
  using Cluster = cute::Shape<cute::Int<kTwoSms ? 2 : 1>, cute::_1, cute::_1>;
  using Element = cutlass::float_e4m3_t;
  using Problem = cutlass::gemm::GroupProblemShape<cute::Shape<int, int, int>>;

  // Activations: a scale a row, rows the fast axis. Weights: a scale for 128 rows, K the fast axis.
  using Scales = std::conditional_t<
      kSwapped, cutlass::detail::Sm100BlockwiseScaleConfig<128, 1, 128, cute::UMMA::Major::K, cute::UMMA::Major::MN>,
      cutlass::detail::Sm100BlockwiseScaleConfig<1, 128, 128, cute::UMMA::Major::MN, cute::UMMA::Major::K>>;
  using LayoutSFA = decltype(Scales::deduce_layoutSFA());
  using LayoutSFB = decltype(Scales::deduce_layoutSFB());

  using OutputLayout = std::conditional_t<kSwapped, cutlass::layout::ColumnMajor, cutlass::layout::RowMajor>;
  static constexpr int kInputAlignment = 16;
  static constexpr int kOutputAlignment = 16 / static_cast<int>(sizeof(Output));

  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm100, cutlass::arch::OpClassTensorOp, Tile, Cluster,
      cutlass::epilogue::collective::EpilogueTileAuto, float, float, void, OutputLayout*, kOutputAlignment, Output,
      OutputLayout*, kOutputAlignment,
      std::conditional_t<kTwoSms, cutlass::epilogue::PtrArrayTmaWarpSpecialized2Sm,
                         cutlass::epilogue::PtrArrayTmaWarpSpecialized1Sm>>::CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm100, cutlass::arch::OpClassTensorOp, Element,
      cute::tuple<cutlass::layout::RowMajor*, LayoutSFA*>, kInputAlignment, Element,
      cute::tuple<cutlass::layout::ColumnMajor*, LayoutSFB*>, kInputAlignment, float, Tile, Cluster,
      cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>,
      std::conditional_t<kTwoSms, cutlass::gemm::KernelPtrArrayTmaWarpSpecializedBlockwise2SmSm100,
                         cutlass::gemm::KernelPtrArrayTmaWarpSpecializedBlockwise1SmSm100>>::CollectiveOp;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<Problem, Mainloop, Epilogue, void>;

  // groups.h's structs stand for these types.
  using Shape = typename Problem::UnderlyingProblemShape;
  using StrideA = typename Kernel::InternalStrideA;
  using StrideB = typename Kernel::InternalStrideB;
  using StrideD = typename Kernel::InternalStrideD;
  static_assert(sizeof(Shape) == sizeof(GroupShape));
  static_assert(sizeof(LayoutSFA) == sizeof(ScaleLayout) && sizeof(LayoutSFB) == sizeof(ScaleLayout));
  static_assert(sizeof(StrideA) == sizeof(std::int64_t) && sizeof(StrideB) == sizeof(std::int64_t) &&
                sizeof(StrideD) == sizeof(std::int64_t));

  template <typename To, typename From>
  static To* as(const From* array) {  // CUTLASS's arguments are not const, and it writes none of them
    return reinterpret_cast<To*>(const_cast<From*>(array));
  }

  static typename Kernel::Arguments arguments_of(const Groups& g, std::int32_t sms) {
    typename Kernel::Arguments a;
    a.mode = cutlass::gemm::GemmUniversalMode::kGrouped;
    a.problem_shape = {g.experts, as<Shape>(g.shapes), nullptr};
    a.mainloop.ptr_A = as<const Element*>(kSwapped ? g.weights : g.activations);
    a.mainloop.dA = as<StrideA>(kSwapped ? g.weight_strides : g.activation_strides);
    a.mainloop.ptr_B = as<const Element*>(kSwapped ? g.activations : g.weights);
    a.mainloop.dB = as<StrideB>(kSwapped ? g.activation_strides : g.weight_strides);
    a.mainloop.ptr_SFA = as<const float*>(kSwapped ? g.weight_scales : g.activation_scales);
    a.mainloop.layout_SFA = as<LayoutSFA>(kSwapped ? g.weight_scale_layouts : g.activation_scale_layouts);
    a.mainloop.ptr_SFB = as<const float*>(kSwapped ? g.activation_scales : g.weight_scales);
    a.mainloop.layout_SFB = as<LayoutSFB>(kSwapped ? g.activation_scale_layouts : g.weight_scale_layouts);
    a.epilogue.thread.alpha = 1.0f;
    a.epilogue.thread.beta = 0.0f;
    a.epilogue.ptr_D = as<Output*>(g.outputs);
    a.epilogue.dD = as<StrideD>(g.output_strides);
    a.hw_info.sm_count = sms;
    return a;
  }

  static cudaError_t prepare() {
    return cudaFuncSetAttribute(cutlass::device_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                Kernel::SharedStorageSize);
  }

  // Tensor maps for each CTA, which rewrites them from group to group.
  static std::size_t map_bytes(std::int32_t sms) { return Kernel::get_workspace_size(arguments_of({}, sms)); }

  static cudaError_t launch(const Groups& groups, std::int32_t sms, void* maps, cudaStream_t stream) {
    const typename Kernel::Params params = Kernel::to_underlying_arguments(arguments_of(groups, sms), maps);
    cudaLaunchConfig_t config = {};
    config.gridDim = Kernel::get_grid_shape(params);
    config.blockDim = Kernel::get_block_shape();
    config.dynamicSmemBytes = Kernel::SharedStorageSize;
    config.stream = stream;
    cudaLaunchAttribute cluster = {};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {kTwoSms ? 2 : 1, 1, 1};
    config.attrs = &cluster;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, cutlass::device_kernel<Kernel>, params);
  }
};

template <int kM, int kN, bool kTwoSms, bool kSwapped>
TileEntry tile_entry() {
  using F32 = Grouped<kM, kN, kTwoSms, kSwapped, float>;
  using Bf16 = Grouped<kM, kN, kTwoSms, kSwapped, cutlass::bfloat16_t>;
  return {[] {
            const cudaError_t error = F32::prepare();
            return error == cudaSuccess ? Bf16::prepare() : error;
          },
          [](std::int32_t sms) {
            const std::size_t f32 = F32::map_bytes(sms);
            const std::size_t bf16 = Bf16::map_bytes(sms);
            return f32 > bf16 ? f32 : bf16;
          },
          F32::launch, Bf16::launch};
}

}  // namespace blockmoe::kernels::blackwell
