// products.cpp: see products.hpp.
#include "measure/products.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "measure/cublaslt.hpp"
#include "measure/cuda_check.hpp"
#include "workload/generator.hpp"

namespace blockmoe::measure {
namespace {

constexpr std::uint64_t kSide = 8192;
constexpr std::size_t kScratchBytes = std::size_t{64} << 20;

Status lt_status(cublaslt::Code code, const char* what) {
  if (code == 0) return {};
  return {StatusCode::unsupported, std::string("cuBLASLt: ") + what + " failed with status " + std::to_string(code)};
}

// What a `create` of cuBLASLt made, and the function that destroys it.
template <typename Pointer>
using Owner = std::unique_ptr<std::remove_pointer_t<Pointer>, cublaslt::Code (*)(Pointer)>;

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
Result<double> rate(const cublaslt::Functions& lt, cublaslt::Handle handle, const Operands& o, bool blockwise,
                    Timer& timer) {
  using cublaslt::DescAttribute;
  using cublaslt::ScaleMode;
  cublaslt::Desc desc = nullptr;
  BLOCKMOE_TRY(lt_status(lt.desc_create(&desc, cublaslt::Compute::f32, CUDA_R_32F), "cublasLtMatmulDescCreate"));
  const Owner<cublaslt::Desc> desc_owner(desc, lt.desc_destroy);
  const auto set = [&](DescAttribute attribute, const auto& value) {
    return lt_status(lt.desc_set(desc, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  };
  const void* scale_a = o.scale_a.get();
  const void* scale_b = o.scale_b.get();
  BLOCKMOE_TRY(set(DescAttribute::transpose_a, cublaslt::Operation::transposed));
  BLOCKMOE_TRY(set(DescAttribute::scale_mode_a, blockwise ? ScaleMode::block_of_128x128 : ScaleMode::scalar));
  BLOCKMOE_TRY(set(DescAttribute::scale_mode_b, blockwise ? ScaleMode::vector_of_128 : ScaleMode::scalar));
  BLOCKMOE_TRY(set(DescAttribute::scale_pointer_a, scale_a));
  BLOCKMOE_TRY(set(DescAttribute::scale_pointer_b, scale_b));

  const auto layout = [&](cudaDataType type) {
    cublaslt::Layout made = nullptr;
    lt.layout_create(&made, type, kSide, kSide, static_cast<std::int64_t>(kSide));
    return Owner<cublaslt::Layout>(made, lt.layout_destroy);
  };
  const Owner<cublaslt::Layout> operand = layout(CUDA_R_8F_E4M3);
  const Owner<cublaslt::Layout> result = layout(CUDA_R_16BF);

  cublaslt::Preference preference = nullptr;
  BLOCKMOE_TRY(lt_status(lt.preference_create(&preference), "cublasLtMatmulPreferenceCreate"));
  const Owner<cublaslt::Preference> preference_owner(preference, lt.preference_destroy);
  BLOCKMOE_TRY(lt_status(lt.preference_set(preference, cublaslt::PreferenceAttribute::max_workspace_bytes,
                                           &kScratchBytes, sizeof kScratchBytes),
                         "cublasLtMatmulPreferenceSetAttribute"));
  std::array<cublaslt::Proposal, 4> found{};
  int count = 0;
  BLOCKMOE_TRY(lt_status(lt.propose(handle, desc, operand.get(), operand.get(), result.get(), result.get(), preference,
                                    static_cast<int>(found.size()), found.data(), &count),
                         "cublasLtMatmulAlgoGetHeuristic"));
  double best_us = 0;
  for (int i = 0; i < count; ++i) {
    const float one = 1.0F;
    const float zero = 0.0F;
    const auto sample = timer.bursts(
        [&](void* stream) {
          return lt_status(
              lt.multiply(handle, desc, &one, o.a.get(), operand.get(), o.b.get(), operand.get(), &zero, o.d.get(),
                          result.get(), o.d.get(), result.get(), &found[static_cast<std::size_t>(i)].algorithm,
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
  auto lt = cublaslt::load();
  if (!lt.ok()) return lt.status();
  cublaslt::Handle handle = nullptr;
  BLOCKMOE_TRY(lt_status(lt.value().create(&handle), "cublasLtCreate"));
  const Owner<cublaslt::Handle> owner(handle, lt.value().destroy);
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

}  // namespace blockmoe::measure
