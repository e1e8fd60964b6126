"""The runner workspace compiles and links as a runner builds it, and depends on nothing that a runner lacks.

Usage: check_solution.py NVCC TOOLS_FOLDER WORK_FOLDER [PACKAGE_FOLDER]

With the package's folder (python/blockmoe) it is the workspace for sm_100a, compiled with what the package says that a runner's compiler
must be told; of its files, those that the other workspace has not are looked at, and of the six tiles, which take a minute and a half
each, one.

nvcc gets the flags of TVM-FFI's stock builder (-std=c++17 -O2, the workspace and TVM-FFI's headers as include folders). That
builder compiles .cpp files without the toolkit's headers, so there must be none. Most kernels are compiled to PTX only and not
optimised, for the time that it takes; one of each kind gets machine code too.
"""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor


# Of the workspace for sm_100a: what takes part in a call on a B200, and no file of the other workspace's test.
FOR_SM_100A = ("blackwell/cutlass/tiles.cu", "blackwell/cutlass/tile_swapped_128x16.cu", "blackwell/arguments.cu", "blackwell/gather.cu")

# What a runner may ask for: a data center's Ampere, Hopper, Blackwell. hopper's kernels are for one of them, and must compile,
# to a trap, for the others.
MACHINE_CODE = {
    "stages/pack.cu": ("80", "90a", "100a"),
    "portable/gemm2.cu": ("90a",),
    "hopper/products_narrow.cu": ("90a", "100a"),
}


def tvm_ffi() -> pathlib.Path:
    return pathlib.Path(importlib.util.find_spec("tvm_ffi").origin).parent


def tvm_ffi_includes() -> list[str]:
    return [f"-I{tvm_ffi() / 'include'}", f"-I{tvm_ffi() / '3rdparty' / 'dlpack' / 'include'}"]


def foreign_includes(folder: pathlib.Path, files: list[pathlib.Path]) -> list[str]:
    """Includes that neither the workspace nor a toolkit has, each as "file: header"."""
    found = []
    for file in files:
        text = (folder / file).read_text()
        found += [f"{file}: {name}" for name in re.findall(r'#include "([^"]+)"', text) if not (folder / name).exists()]
        for name in re.findall(r"#include <([^>]+)>", text):
            toolkit = name.startswith(("cuda", "nvtx3/")) or "/" not in name
            cutlass = file.name == "grouped.cuh" and name.startswith(("cutlass/", "cute/"))
            if not toolkit and not cutlass and not (name.startswith("tvm/ffi/") and file.name == "moe.cu"):
                found.append(f"{file}: {name}")
    return found


def object_of(folder: pathlib.Path, file: pathlib.Path) -> pathlib.Path:
    return folder / file.with_suffix(".o")


def compile_file(nvcc: str, folder: pathlib.Path, file: pathlib.Path) -> str:
    """The compiler's complaints, or nothing."""
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in MACHINE_CODE.get(file.as_posix(), ())]
    targets = targets or ["-gencode=arch=compute_90a,code=compute_90a", "-Ofc=max"]
    includes = [f"-I{folder}", *(tvm_ffi_includes() if file.name == "moe.cu" else [])]
    flags = ["-std=c++17", "-O2", "-Xcompiler", "-fPIC", *targets, *includes]
    command = [nvcc, *flags, "-c", str(folder / file), "-o", str(object_of(folder, file))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{file}: does not compile\n{ended.stderr}" if ended.returncode != 0 else ""


def link(nvcc: str, folder: pathlib.Path, sources: list[pathlib.Path]) -> str:
    """The linker's complaints, or nothing: no symbol is missing, and the entry is there."""
    library = folder / "run.so"
    objects = [str(object_of(folder, file)) for file in sources]
    flags = ["-shared", "-Xlinker", "--no-undefined", f"-L{tvm_ffi() / 'lib'}", "-ltvm_ffi"]
    ended = subprocess.run([nvcc, *objects, *flags, "-o", str(library)], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        return f"the workspace does not link\n{ended.stderr}"
    return "" if b"__tvm_ffi_run" in library.read_bytes() else "moe.cu: no entry `run`"


def compile_for_sm_100a(nvcc: str, folder: pathlib.Path, package: pathlib.Path, file: str) -> str:
    """As TVM-FFI's builder does on a machine without a GPU; the compiler's complaints, or nothing."""
    spec = importlib.util.spec_from_file_location("pack", package / "_pack_solution.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    told = module.environment("sm_100a")
    number = told["TVM_FFI_CUDA_ARCH_LIST"].replace(".", "")
    flags = ["-std=c++17", "-O2", "-Xcompiler", "-fPIC", f"-gencode=arch=compute_{number},code=sm_{number}", f"-I{folder}"]
    command = [nvcc, *flags, "-c", str(folder / file), "-o", str(object_of(folder, pathlib.Path(file)))]
    environment = {**os.environ, "NVCC_APPEND_FLAGS": told["NVCC_APPEND_FLAGS"]}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return f"{file}: does not compile\n{ended.stderr}" if ended.returncode != 0 else ""


def main() -> int:
    nvcc, tools, work = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    sys.path.insert(0, tools)
    from pack_solution import pack  # noqa: PLC0415: the tools' folder is an argument

    if len(sys.argv) == 5:
        faults = [f"{fault}: a runner does not have it" for fault in foreign_includes(work, pack(work, "sm_100a"))]
        with ThreadPoolExecutor(2) as pool:
            results = pool.map(lambda file: compile_for_sm_100a(nvcc, work, pathlib.Path(sys.argv[4]), file), FOR_SM_100A)
            faults += [fault for fault in results if fault]
        print("\n".join(faults) if faults else f"{len(FOR_SM_100A)} files compile for sm_100a")
        return 1 if faults else 0

    files = pack(work)
    faults = [f"{fault}: a runner does not have it" for fault in foreign_includes(work, files)]
    faults += [f"{name}: not in the workspace" for name in MACHINE_CODE if pathlib.Path(name) not in files]
    faults += [f"{file}: a runner compiles it without CUDA's headers" for file in files if file.suffix == ".cpp"]
    sources = [file for file in files if file.suffix == ".cu"]
    with ThreadPoolExecutor(2) as pool:
        faults += [fault for fault in pool.map(lambda file: compile_file(nvcc, work, file), sources) if fault]
    faults = faults or [fault for fault in [link(nvcc, work, sources)] if fault]
    print("\n".join(faults) if faults else f"{len(sources)} files compile and link")
    return 1 if faults or len(sources) < 2 else 0


if __name__ == "__main__":
    sys.exit(main())
