// products.cpp: see products.hpp.
#include "measure/products.hpp"

// nvcc from PyPI comes without this header.
#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#define BLOCKMOE_HAS_CUBLASLT 1
#endif
#include <dlfcn.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "measure/cuda_check.hpp"
#include "workload/generator.hpp"

namespace blockmoe::measure {
#if BLOCKMOE_HAS_CUBLASLT
namespace {

constexpr std::uint64_t kSide = 8192;
constexpr std::size_t kScratchBytes = std::size_t{64} << 20;

// The functions used, under the names that cuBLASLt gives them.
struct Lt {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
};

Result<Lt> load() {
  void* library = nullptr;
  for (const char* name : {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13"})
    if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return Status(StatusCode::unsupported, "libcublasLt.so.13 not found: product rates can't be measured");
  Lt lt;
  bool complete = true;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    complete = complete && function != nullptr;
  };
  find(lt.create, "cublasLtCreate");
  find(lt.destroy, "cublasLtDestroy");
  find(lt.matmul, "cublasLtMatmul");
  find(lt.desc_create, "cublasLtMatmulDescCreate");
  find(lt.desc_destroy, "cublasLtMatmulDescDestroy");
  find(lt.desc_set, "cublasLtMatmulDescSetAttribute");
  find(lt.layout_create, "cublasLtMatrixLayoutCreate");
  find(lt.layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(lt.preference_create, "cublasLtMatmulPreferenceCreate");
  find(lt.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(lt.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  find(lt.heuristic, "cublasLtMatmulAlgoGetHeuristic");
  if (!complete) return Status(StatusCode::unsupported, "libcublasLt.so.13 lacks a function that product rates need");
  return lt;
}

Status lt_status(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return {StatusCode::unsupported,
          std::string("cuBLASLt: ") + what + " failed with status " + std::to_string(static_cast<int>(status))};
}

struct Operands {
  DeviceMemory a, b, d, scale_a, scale_b, scratch;
};

// Codes as profile `official` draws them, on which the known rates were measured: power, and with it the rate, depends on
// the bits that flip. Scales of 1: they are too few to matter.
Result<Operands> make_operands() {
  const auto draw = [](std::vector<std::uint8_t>& codes, workload::DrawStream stream) {
    workload::draw_clamped_codes(codes.data(), std::ssize(codes), /*seed=*/1, stream, /*threads=*/0);
  };
  std::vector<std::uint8_t> codes(kSide * kSide);
  const std::vector<float> ones(kSide * (kSide / 128), 1.0F);
  Operands o;
  const std::array<std::pair<DeviceMemory*, std::size_t>, 6> wanted = {{{&o.a, codes.size()},
                                                                        {&o.b, codes.size()},
                                                                        {&o.d, kSide * kSide * 2},
                                                                        {&o.scale_a, ones.size() * 4},
                                                                        {&o.scale_b, ones.size() * 4},
                                                                        {&o.scratch, kScratchBytes}}};
  for (const auto& [memory, bytes] : wanted) {
    auto got = allocate(bytes, "operands of the product");
    if (!got.ok()) return got.status();
    *memory = std::move(got).value();
  }
  draw(codes, workload::DrawStream::gemm1_weights);
  BLOCKMOE_CUDA_TRY(cudaMemcpy(o.a.get(), codes.data(), codes.size(), cudaMemcpyHostToDevice));
  draw(codes, workload::DrawStream::hidden_states);
  BLOCKMOE_CUDA_TRY(cudaMemcpy(o.b.get(), codes.data(), codes.size(), cudaMemcpyHostToDevice));
  BLOCKMOE_CUDA_TRY(cudaMemcpy(o.scale_a.get(), ones.data(), ones.size() * 4, cudaMemcpyHostToDevice));
  BLOCKMOE_CUDA_TRY(cudaMemcpy(o.scale_b.get(), ones.data(), ones.size() * 4, cudaMemcpyHostToDevice));
  return o;
}

// D[M, N] = X[M, K] W[N, K]^T, row-major, is in cuBLAS's column-major terms D^T = W X^T: its A is W, its B is X.
Result<double> rate(const Lt& lt, cublasLtHandle_t handle, const Operands& o, bool blockwise, Timer& timer) {
  cublasLtMatmulDesc_t desc = nullptr;
  BLOCKMOE_TRY(lt_status(lt.desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate"));
  const std::unique_ptr<std::remove_pointer_t<cublasLtMatmulDesc_t>, decltype(lt.desc_destroy)> desc_owner(
      desc, lt.desc_destroy);
  const cublasOperation_t transposed = CUBLAS_OP_T;
  const void* scale_a = o.scale_a.get();
  const void* scale_b = o.scale_b.get();
  const auto mode_a = blockwise ? CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F : CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
  const auto mode_b = blockwise ? CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F : CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    return lt_status(lt.desc_set(desc, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  };
  BLOCKMOE_TRY(set(CUBLASLT_MATMUL_DESC_TRANSA, transposed));
  BLOCKMOE_TRY(set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode_a));
  BLOCKMOE_TRY(set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode_b));
  BLOCKMOE_TRY(set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, scale_a));
  BLOCKMOE_TRY(set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, scale_b));

  using Layout = std::unique_ptr<std::remove_pointer_t<cublasLtMatrixLayout_t>, decltype(lt.layout_destroy)>;
  const auto layout = [&](cudaDataType type) {
    cublasLtMatrixLayout_t made = nullptr;
    lt.layout_create(&made, type, kSide, kSide, static_cast<std::int64_t>(kSide));
    return Layout(made, lt.layout_destroy);
  };
  const Layout operand = layout(CUDA_R_8F_E4M3);
  const Layout result = layout(CUDA_R_16BF);

  cublasLtMatmulPreference_t preference = nullptr;
  BLOCKMOE_TRY(lt_status(lt.preference_create(&preference), "cublasLtMatmulPreferenceCreate"));
  const std::unique_ptr<std::remove_pointer_t<cublasLtMatmulPreference_t>, decltype(lt.preference_destroy)>
      preference_owner(preference, lt.preference_destroy);
  BLOCKMOE_TRY(lt_status(
      lt.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kScratchBytes, sizeof kScratchBytes),
      "cublasLtMatmulPreferenceSetAttribute"));
  std::array<cublasLtMatmulHeuristicResult_t, 4> found{};
  int count = 0;
  BLOCKMOE_TRY(lt_status(lt.heuristic(handle, desc, operand.get(), operand.get(), result.get(), result.get(),
                                      preference, static_cast<int>(found.size()), found.data(), &count),
                         "cublasLtMatmulAlgoGetHeuristic"));
  double best_us = 0;
  for (int i = 0; i < count; ++i) {
    const float one = 1.0F;
    const float zero = 0.0F;
    const auto sample = timer.bursts(
        [&](void* stream) {
          return lt_status(
              lt.matmul(handle, desc, &one, o.a.get(), operand.get(), o.b.get(), operand.get(), &zero, o.d.get(),
                        result.get(), o.d.get(), result.get(), &found[static_cast<std::size_t>(i)].algo,
                        o.scratch.get(), kScratchBytes, static_cast<cudaStream_t>(stream)),
              "cublasLtMatmul");
        },
        kProductBursts);
    if (!sample.ok()) return sample.status();
    if (best_us == 0 || sample.value().median_us < best_us) best_us = sample.value().median_us;
  }
  if (best_us == 0) return Status(StatusCode::unsupported, "cuBLASLt offers no FP8 product on this device");
  const auto side = static_cast<double>(kSide);
  return 2.0 * side * side * side / best_us * 1e-6;
}

}  // namespace

Result<ProductRates> measure_products(Timer& timer) {
  auto lt = load();
  if (!lt.ok()) return lt.status();
  cublasLtHandle_t handle = nullptr;
  BLOCKMOE_TRY(lt_status(lt.value().create(&handle), "cublasLtCreate"));
  const std::unique_ptr<std::remove_pointer_t<cublasLtHandle_t>, decltype(lt.value().destroy)> owner(
      handle, lt.value().destroy);
  auto operands = make_operands();
  if (!operands.ok()) return operands.status();
  ProductRates rates;
  auto plain = rate(lt.value(), handle, operands.value(), false, timer);
  if (!plain.ok()) return plain.status();
  rates.fp8_tflops = plain.value();
  auto blockwise = rate(lt.value(), handle, operands.value(), true, timer);
  if (blockwise.ok()) rates.blockwise_tflops = blockwise.value();  // older parts have no such product: 0 says so
  return rates;
}
#else
Result<ProductRates> measure_products(Timer& /*timer*/) {
  return Status(StatusCode::unsupported, "this build had no cublasLt.h: product rates can't be measured");
}
#endif

}  // namespace blockmoe::measure
