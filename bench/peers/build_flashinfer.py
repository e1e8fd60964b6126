#!/usr/bin/env python3
"""Compiles the one runner of FlashInfer's CUTLASS MoE that takes BF16 activations and block-scaled e4m3 weights on sm_90.

    build_flashinfer.py --site DIR [--site DIR] --output flashinfer_moe.so [--jobs N]

The package's own module instantiates every combination of types: 220 sources, hours on a small machine. This builds the
same sources with the same flags, with the constructor and the list of instantiations reduced to that one: minutes, 3.5 MB.
DIR holds the unpacked wheels of requirements/flashinfer.txt, or TVM-FFI's. PyTorch is not needed. The result is loaded by
`tvm_ffi.load_module` (adapters/flashinfer_cutlass.py).
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

RUNNER = "CutlassMoeFCRunner<__nv_bfloat16, __nv_fp8_e4m3, __nv_bfloat16>"
INSTANTIATION = f"""#include "cutlass_fused_moe_kernels.cuh"
#include "moe_kernels.h"
namespace tensorrt_llm::kernels::cutlass_kernels {{
template class {RUNNER};
}}
"""
# Of the package's data/csrc.
GEMMS = "nv_internal/tensorrt_llm/kernels/cutlass_kernels"
SOURCES = (
    f"{GEMMS}/moe_gemm/moe_gemm_tma_warp_specialized_input.cu",
    f"{GEMMS}/moe_gemm/moe_gemm_kernels_bf16_fp8.cu",
    f"{GEMMS}/moe_gemm/moe_gemm_mixed_utils.cu",
    f"{GEMMS}/fp8_blockscale_gemm/fp8_blockscale_gemm.cu",
    f"{GEMMS}/cutlass_heuristic.cpp",
    "nv_internal/tensorrt_llm/kernels/preQuantScaleKernel.cu",
    "nv_internal/tensorrt_llm/kernels/lora/lora.cpp",
    "nv_internal/cpp/common/envUtils.cpp",
    "nv_internal/cpp/common/logger.cpp",
    "nv_internal/cpp/common/stringUtils.cpp",
    "nv_internal/cpp/common/tllmException.cpp",
    "nv_internal/cpp/common/memoryUtils.cu",
    "fused_moe/cutlass_backend/deepgemm_jit_setup.cu",
)
BINDING = "fused_moe/cutlass_backend/flashinfer_cutlass_fused_moe_binding.cu"
HEADERS = (  # of the module, below data/csrc
    "nv_internal",
    "nv_internal/include",
    "nv_internal/tensorrt_llm/cutlass_extensions/include",
    f"{GEMMS}/include",
    GEMMS,
    "fused_moe/cutlass_backend",
)
FLAGS = (
    "-gencode=arch=compute_90a,code=sm_90a",
    "-use_fast_math",
    "-Xfatbin=-compress-all",
    "-DFLASHINFER_ENABLE_F16",
    "-DFLASHINFER_ENABLE_BF16",
    "-DFLASHINFER_ENABLE_FP8_E4M3",
    "-DFLASHINFER_ENABLE_FP8_E5M2",
    "-DCUTE_SM90_EXTENDED_MMA_SHAPES_ENABLED",
    "-DFLASHINFER_ENABLE_FP8_E8M0",
    "-DFLASHINFER_ENABLE_FP4_E2M1",
    "-DCOMPILE_HOPPER_TMA_GEMMS",
    "-DCOMPILE_HOPPER_TMA_GROUPED_GEMMS",
    "-DENABLE_BF16",
    "-DENABLE_FP8",
    "-DENABLE_FP8_BLOCK_SCALE",
    "-DENABLE_FP4",
    "-DUSING_OSS_CUTLASS_MOE_GEMM",
    "-DCUTLASS_ENABLE_GDC_FOR_SM90=1",
    "-DCUTLASS_MIXED_GEMM_FP4_FP8_PREPROCESSED_SIGNS=1",
)


def reduced_binding(text: str) -> str:
    """The binding whose constructor knows one combination of types."""
    chosen = f"mKernelRunner = std::make_unique<kernels::{RUNNER}>();"
    text, count = re.subn(
        r"(mInnerDimMultiplier = 1;\n).*?(\n    if \(!mKernelRunner\))",
        lambda match: f"{match[1]}    {chosen}{match[2]}",
        text,
        count=1,
        flags=re.DOTALL,
    )
    if count != 1:
        sys.exit("build_flashinfer: the binding of this version has another constructor")
    return text


def package(sites: list[pathlib.Path], name: str) -> pathlib.Path:
    for site in sites:
        if (site / name).is_dir():
            return site / name
    sys.exit(f"build_flashinfer: {name} is in none of {', '.join(map(str, sites))}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--site", type=pathlib.Path, action="append", required=True, help="folder of unpacked wheels; repeatable")
    options.add_argument("--output", type=pathlib.Path, required=True)
    options.add_argument("--jobs", type=int, default=os.cpu_count())
    given = options.parse_args()

    data, tvm = package(given.site, "flashinfer") / "data", package(given.site, "tvm_ffi")
    cuda = pathlib.Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    csrc = data / "csrc"
    includes = [f"-I{csrc / folder}" for folder in HEADERS]
    includes += [f"-I{data / 'cccl' / folder}" for folder in ("cub", "libcudacxx/include", "thrust")]
    for folder in (
        tvm / "include",
        tvm / "3rdparty/dlpack/include",
        data / "include",
        csrc,
        data / "cutlass/include",
        data / "cutlass/tools/util/include",
        data / "spdlog/include",
    ):
        includes += ["-isystem", str(folder)]
    nvcc = [str(cuda / "bin/nvcc"), "-O3", "-std=c++17", "-DNDEBUG", "--compiler-options=-fPIC", "--expt-relaxed-constexpr"]
    nvcc += ["-static-global-template-stub=false", *FLAGS, *includes]
    host = ["c++", "-O3", "-std=c++17", "-DNDEBUG", "-fPIC", *includes, "-isystem", str(cuda / "include")]

    with tempfile.TemporaryDirectory() as work_name:
        work = pathlib.Path(work_name)
        binding, instantiation = work / "binding.cu", work / "instantiation.cu"
        text = reduced_binding((csrc / BINDING).read_text())
        binding.write_text(text.replace('"../../tvm_ffi_utils.h"', '"tvm_ffi_utils.h"'))
        instantiation.write_text(INSTANTIATION)

        def compile_one(source: pathlib.Path) -> pathlib.Path:
            made = work / f"{source.stem}.o"
            command = host if source.suffix == ".cpp" else nvcc
            done = subprocess.run([*command, "-c", str(source), "-o", str(made)], capture_output=True, text=True)
            print(f"{source.name}: {'done' if done.returncode == 0 else done.stderr[-4000:]}", flush=True)
            if done.returncode:
                sys.exit(1)
            return made

        with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
            objects = list(pool.map(compile_one, [instantiation, binding, *(csrc / name for name in SOURCES)]))
        link = ["c++", "-shared", *map(str, objects), "-o", str(given.output), "-Wl,--no-undefined", f"-L{cuda}/lib64"]
        link += [f"-L{cuda}/lib64/stubs", "-lcudart", "-lcuda", "-lnvrtc", f"-L{tvm}/lib", "-ltvm_ffi"]
        subprocess.run(link, check=True)


if __name__ == "__main__":
    main()
