// no_configs.cpp: configs.h where the build did not find the export headers.
#include "blackwell/trtllm/configs.h"

namespace blockmoe::kernels::blackwell::trtllm {

const char* why_no_configs() {
  return "this build has none of TRTLLM's batched-GEMM kernels: package flashinfer-cubin (PyPI, 0.6.8.post1 or later) "
         "was not there";
}

std::int32_t config_count() {
  return 0;
}

const Config* config_at(std::int32_t, std::string* why_not) {
  *why_not = why_no_configs();
  return nullptr;
}

std::int32_t choose_config(std::int64_t, std::int64_t, std::int32_t, std::int32_t, std::string* why_not) {
  *why_not = why_no_configs();
  return -1;
}

bool make_arguments(std::int32_t, std::int64_t, std::int64_t, std::int32_t, Arguments*, std::string* why_not) {
  *why_not = why_no_configs();
  return false;
}

CUresult fill_arguments(const ProductCall&, const Maps&, Arguments*) {
  return CUDA_ERROR_NOT_SUPPORTED;
}

Grid grid_of(std::int32_t, std::int64_t, std::int64_t) {
  return {};
}

}  // namespace blockmoe::kernels::blackwell::trtllm
