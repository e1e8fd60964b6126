// cublaslt_test.cpp: our declarations of cuBLASLt against its header, where the toolkit has it.
#include "measure/cublaslt.hpp"

#include <gtest/gtest.h>

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

#include <type_traits>

namespace blockmoe::measure::cublaslt {
namespace {

// Arguments travel alike: as many, each of the same size, pointers where the header has pointers.
template <typename Ours, typename Theirs>
constexpr bool kAlike = false;
template <typename... Ours, typename... Theirs>
constexpr bool kAlike<Code (*)(Ours...), cublasStatus_t (*)(Theirs...)> = [] {
  if constexpr (sizeof...(Ours) == sizeof...(Theirs)) {
    return ((sizeof(Ours) == sizeof(Theirs) && std::is_pointer_v<Ours> == std::is_pointer_v<Theirs>) && ...);
  } else {
    return false;
  }
}();

static_assert(kAlike<decltype(Functions::create), decltype(&cublasLtCreate)>);
static_assert(kAlike<decltype(Functions::destroy), decltype(&cublasLtDestroy)>);
static_assert(kAlike<decltype(Functions::desc_create), decltype(&cublasLtMatmulDescCreate)>);
static_assert(kAlike<decltype(Functions::desc_destroy), decltype(&cublasLtMatmulDescDestroy)>);
static_assert(kAlike<decltype(Functions::desc_set), decltype(&cublasLtMatmulDescSetAttribute)>);
static_assert(kAlike<decltype(Functions::layout_create), decltype(&cublasLtMatrixLayoutCreate)>);
static_assert(kAlike<decltype(Functions::layout_destroy), decltype(&cublasLtMatrixLayoutDestroy)>);
static_assert(kAlike<decltype(Functions::preference_create), decltype(&cublasLtMatmulPreferenceCreate)>);
static_assert(kAlike<decltype(Functions::preference_destroy), decltype(&cublasLtMatmulPreferenceDestroy)>);
static_assert(kAlike<decltype(Functions::preference_set), decltype(&cublasLtMatmulPreferenceSetAttribute)>);
static_assert(kAlike<decltype(Functions::propose), decltype(&cublasLtMatmulAlgoGetHeuristic)>);
static_assert(kAlike<decltype(Functions::multiply), decltype(&cublasLtMatmul)>);

static_assert(CUBLAS_STATUS_SUCCESS == 0);
static_assert(static_cast<int>(Compute::f32) == CUBLAS_COMPUTE_32F);
static_assert(static_cast<int>(Operation::transposed) == CUBLAS_OP_T);
static_assert(static_cast<int>(DescAttribute::transpose_a) == CUBLASLT_MATMUL_DESC_TRANSA);
static_assert(static_cast<int>(DescAttribute::scale_pointer_a) == CUBLASLT_MATMUL_DESC_A_SCALE_POINTER);
static_assert(static_cast<int>(DescAttribute::scale_pointer_b) == CUBLASLT_MATMUL_DESC_B_SCALE_POINTER);
static_assert(static_cast<int>(DescAttribute::scale_mode_a) == CUBLASLT_MATMUL_DESC_A_SCALE_MODE);
static_assert(static_cast<int>(DescAttribute::scale_mode_b) == CUBLASLT_MATMUL_DESC_B_SCALE_MODE);
static_assert(static_cast<int>(ScaleMode::scalar) == CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F);
static_assert(static_cast<int>(ScaleMode::vector_of_128) == CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F);
static_assert(static_cast<int>(ScaleMode::block_of_128x128) == CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F);
static_assert(static_cast<int>(PreferenceAttribute::max_workspace_bytes) == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);

static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(Proposal) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(Proposal, workspace_bytes) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(Proposal, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));
static_assert(offsetof(Proposal, waves) == offsetof(cublasLtMatmulHeuristicResult_t, wavesCount));

}  // namespace
}  // namespace blockmoe::measure::cublaslt

// That this file was compiled is the test.
TEST(cublaslt, declarations_are_those_of_the_header) {}
#else
TEST(cublaslt, declarations_are_those_of_the_header) {
  GTEST_SKIP() << "this toolkit has no cublasLt.h";
}
#endif

TEST(cublaslt, loads_whole_or_says_what_is_not_there) {
  const auto functions = blockmoe::measure::cublaslt::load();
  if (functions.ok()) {
    EXPECT_NE(functions.value().multiply, nullptr);
  } else {
    EXPECT_EQ(functions.status().message().find("libcublasLt.so.13"), 0U);
  }
}
