// configs.cpp: see configs.h. The one file that includes the export headers of flashinfer-cubin; flashinferMetaInfo.h is what
// list_configs.py left of theirs.
#include "blackwell/trtllm/configs.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <type_traits>
#include <vector>

#include "blackwell/trtllm/driver_calls.h"

namespace blockmoe::kernels::blackwell::trtllm {
namespace {

CUresult encode_tiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                      const cuuint64_t* size, const cuuint64_t* pitch, const cuuint32_t* box, const cuuint32_t* step,
                      CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                      CUtensorMapFloatOOBfill fill) {
  static DriverFunction<PFN_cuTensorMapEncodeTiled_v12000> function("cuTensorMapEncodeTiled", 12000);
  return call_driver(function, map, type, rank, address, size, pitch, box, step, interleave, swizzle, promotion, fill);
}

// For a message of theirs; ours has the number.
CUresult describe(CUresult, const char** text) {
  *text = "refused";
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace blockmoe::kernels::blackwell::trtllm

// The headers call the driver by name; so that nothing is linked to libcuda, these names are looked up here.
#define cuTensorMapEncodeTiled ::blockmoe::kernels::blackwell::trtllm::encode_tiled
#define cuGetErrorString ::blockmoe::kernels::blackwell::trtllm::describe
#include <flashinferMetaInfo.h>
#include <trtllmGen_bmm_export/BatchedGemmOptions.h>
#undef cuTensorMapEncodeTiled
#undef cuGetErrorString

namespace blockmoe::kernels::blackwell::trtllm {
namespace {

namespace gen = ::batchedGemm::trtllm::gen;
namespace gemm = ::batchedGemm::gemm;
namespace batched = ::batchedGemm::batchedGemm;
using batched::BatchedGemmConfig;
using batched::BatchedGemmOptions;
using ::batchedGemm::KernelParams;

static_assert(sizeof(KernelParams) <= Arguments::kBytes && std::is_trivially_copyable_v<KernelParams>);
static_assert(alignof(KernelParams) <= alignof(Arguments));

bool is_wanted(const BatchedGemmConfig& config) {
  const BatchedGemmOptions& o = config.mOptions;
  const bool types = o.mDtypeA == gen::Dtype::E4m3 && o.mDtypeB == gen::Dtype::E4m3 &&
                     o.mDtypeC == gen::Dtype::Bfloat16 && o.mDtypeAcc == gen::Dtype::Fp32 && o.mUseDeepSeekFp8 &&
                     !o.mUsePerTokenSfA && !o.mUsePerTokenSfB;
  const bool operands = o.mTransposeMmaOutput && o.mBatchMode == BatchedGemmOptions::BatchMode::BatchN &&
                        !o.mUseShuffledMatrix && o.mLayoutA == gemm::MatrixLayout::MajorK &&
                        o.mLayoutB == gemm::MatrixLayout::MajorK && o.mRouteImpl == batched::RouteImpl::NoRoute &&
                        gen::Sparsity::Dense == o.mSparsityA;
  const bool counts = !o.mIsStaticBatch && !o.mIsUniformNumTokensPerBatch && o.mEnablesEarlyExit && o.mUseTmaOobOpt;
  const bool output = !o.mFusedAct && o.mEltwiseActType == gemm::EltwiseActType::None &&
                      o.mBiasType == gemm::BiasType::None && o.mSplitK == gemm::SplitK::None &&
                      o.mNumSlicesForSplitK == 1;
  const bool launch =
      o.mClusterDimX == 1 && o.mClusterDimY == 1 && o.mClusterDimZ == 1 && !o.mUseFlexibleClusterDims &&
      (o.mTileScheduler == gemm::TileScheduler::Static || o.mTileScheduler == gemm::TileScheduler::Persistent);
  return types && operands && counts && output && launch && config.mSm == gen::CudaArch::Sm100f && o.mTileM == 128 &&
         o.mTileN >= 8 && o.mTileN <= 128;
}

struct Listed {
  Config config;
  const BatchedGemmConfig* theirs = nullptr;
};

// By tile; of one tile the one to be taken first first: persistent CTAs, two steps of K at once. Nobody here has measured them.
const std::vector<Listed>& listed() {
  static const std::vector<Listed> all = [] {
    std::vector<Listed> found;
    for (const BatchedGemmConfig& theirs : ::batchedGemm::tensorrt_llm::kernels::tllmGenBatchedGemmList) {
      if (!is_wanted(theirs)) continue;
      const BatchedGemmOptions& o = theirs.mOptions;
      found.push_back(
          {{theirs.mFunctionName, theirs.mHash, o.mTileN, o.mTileScheduler == gemm::TileScheduler::Persistent,
            o.mUseUnrollLoop2xForMma, theirs.mNumThreadsPerCTA, theirs.mSharedMemSize},
           &theirs});
    }
    std::sort(found.begin(), found.end(), [](const Listed& a, const Listed& b) {
      if (a.config.tile != b.config.tile) return a.config.tile < b.config.tile;
      if (a.config.persistent != b.config.persistent) return a.config.persistent;
      if (a.config.unrolled != b.config.unrolled) return a.config.unrolled;
      return a.config.function < b.config.function;
    });
    return found;
  }();
  return all;
}

BatchedGemmOptions options_of(const Listed& listed, std::int64_t columns, std::int64_t depth, std::int32_t experts) {
  BatchedGemmOptions o = listed.theirs->mOptions;
  o.mM = o.mValidM = static_cast<int>(columns);
  o.mN = o.mValidN = o.mTileN;  // of a call's rows only the device knows
  o.mK = o.mValidK = static_cast<int>(depth);
  o.mNumBatches = experts;
  o.mNumTokens = 0;
  return o;
}

}  // namespace

const char* why_no_configs() {
  return listed().empty()
             ? "the headers of flashinfer-cubin that this was built with list no kernel that does this layer's products"
             : "";
}

std::int32_t config_count() {
  return static_cast<std::int32_t>(listed().size());
}

const Config* config_at(std::int32_t index, std::string* why_not) {
  if (index >= 0 && index < config_count()) return &listed()[static_cast<std::size_t>(index)].config;
  *why_not = "configuration " + std::to_string(index) + ", expected 0 to " + std::to_string(config_count() - 1);
  return nullptr;
}

std::int32_t choose_config(std::int64_t columns, std::int64_t depth, std::int32_t experts, std::int32_t tile,
                           std::string* why_not) {
  for (std::int32_t index = 0; index < config_count(); ++index) {
    const Listed& candidate = listed()[static_cast<std::size_t>(index)];
    if (candidate.config.tile != tile) continue;
    BatchedGemmOptions options = options_of(candidate, columns, depth, experts);
    if (batched::checkAndUpdateBatchedGemmOptions(options, candidate.theirs->mSm, false)) return index;
  }
  *why_not = "no kernel of " + std::to_string(config_count()) + " multiplies by " + std::to_string(columns) + " x " +
             std::to_string(depth) + " weights of " + std::to_string(experts) + " experts with tiles of " +
             std::to_string(tile) + " rows";
  return -1;
}

bool make_arguments(std::int32_t index, std::int64_t columns, std::int64_t depth, std::int32_t experts,
                    Arguments* arguments, std::string* why_not) {
  if (config_at(index, why_not) == nullptr) return false;
  const BatchedGemmOptions options = options_of(listed()[static_cast<std::size_t>(index)], columns, depth, experts);
  // Tensor maps want an address; fill_arguments() puts the call's in its place.
  void* const somewhere = reinterpret_cast<void*>(std::uintptr_t{256});
  try {
    const KernelParams params = batched::KernelParamsSetup::setKernelParams(
        options, /*batchM=*/false, somewhere, somewhere, somewhere, /*dSfA=*/nullptr, /*dSfB=*/nullptr,
        /*ptrPerTokenSfA=*/nullptr,
        /*ptrPerTokenSfB=*/nullptr, /*ptrSparsityInfoA=*/nullptr, /*ptrBias=*/nullptr, /*dSfC=*/nullptr,
        /*ptrScaleC=*/nullptr,
        /*ptrScaleAct=*/nullptr, /*ptrScaleGate=*/nullptr, /*ptrClampLimit=*/nullptr, /*ptrGatedActAlpha=*/nullptr,
        /*ptrGatedActBeta=*/nullptr, /*routeMap=*/nullptr, /*rowMax=*/nullptr, /*rowMaxBars=*/nullptr,
        /*ptrNumNonExitingCtas=*/nullptr, /*ptrTotalNumPaddedTokens=*/nullptr, /*ptrCtaIdxXyToBatchIdx=*/nullptr,
        /*ptrCtaIdxXyToMnLimit=*/nullptr, /*maxNumCtas=*/1);
    std::memcpy(arguments->bytes, &params, sizeof params);
    return true;
  } catch (const std::exception& refusal) {
    *why_not = refusal.what();
    return false;
  }
}

CUresult fill_arguments(const ProductCall& call, const Maps& maps, Arguments* arguments) {
  static DriverFunction<PFN_cuTensorMapReplaceAddress_v12000> function("cuTensorMapReplaceAddress", 12000);
  auto& params = *std::launder(reinterpret_cast<KernelParams*>(arguments->bytes));
  const auto point = [](CUtensorMap* map, const void* at) {
    return call_driver(function, map,
                       const_cast<void*>(at));  // NOLINT(cppcoreguidelines-pro-type-const-cast): read alone
  };
  for (const CUresult result :
       {point(&params.tmaA[0], call.weights), point(&params.tmaB[0], call.rows), point(&params.tmaC[0], call.output)}) {
    if (result != CUDA_SUCCESS) return result;
  }
  params.ptrA = call.weights;
  params.ptrB = call.rows;
  params.ptrSfA = call.weight_scale;
  params.ptrSfB = call.row_scale;
  params.numTokens = static_cast<std::int32_t>(call.most_rows);
  params.ptrNumNonExitingCtas = maps.working_tiles;
  params.ptrTotalNumPaddedTokens = maps.padded_rows;
  params.ptrCtaIdxXyToBatchIdx = maps.tile_expert;
  params.ptrCtaIdxXyToMnLimit = maps.tile_limit;
  return CUDA_SUCCESS;
}

Grid grid_of(std::int32_t index, std::int64_t columns, std::int64_t most_tiles) {
  const int tile_columns = listed()[static_cast<std::size_t>(index)].theirs->mOptions.mTileM;
  return {static_cast<std::uint32_t>(columns / tile_columns), static_cast<std::uint32_t>(most_tiles), 1};
}

}  // namespace blockmoe::kernels::blackwell::trtllm
