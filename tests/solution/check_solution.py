"""The runner workspace compiles as a runner compiles it, and depends on nothing that a runner lacks.

Usage: check_solution.py NVCC TOOLS_FOLDER WORK_FOLDER

nvcc gets the flags of TVM-FFI's stock builder (-std=c++17 -O2, the workspace and TVM-FFI's headers as include folders). Kernels are
compiled to PTX only: their machine code is the library's own build's business.
"""

import importlib.util
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor


def tvm_ffi_includes() -> list[str]:
    package = pathlib.Path(importlib.util.find_spec("tvm_ffi").origin).parent
    return [f"-I{package / 'include'}", f"-I{package / '3rdparty' / 'dlpack' / 'include'}"]


def foreign_includes(folder: pathlib.Path, files: list[pathlib.Path]) -> list[str]:
    """Includes that neither the workspace nor a toolkit has, each as "file: header"."""
    found = []
    for file in files:
        text = (folder / file).read_text()
        found += [f"{file}: {name}" for name in re.findall(r'#include "([^"]+)"', text) if not (folder / name).exists()]
        for name in re.findall(r"#include <([^>]+)>", text):
            toolkit = name.startswith(("cuda", "nvtx3/")) or "/" not in name
            if not toolkit and not (name.startswith("tvm/ffi/") and file.name == "moe.cu"):
                found.append(f"{file}: {name}")
    return found


def compile_file(nvcc: str, folder: pathlib.Path, file: pathlib.Path) -> str:
    """The compiler's complaints, or nothing."""
    machine = "-gencode=arch=compute_90a,code=compute_90a"
    is_entry = file.name == "moe.cu"
    flags = ["-c", "-Xcompiler", "-fPIC"] if is_entry or file.suffix == ".cpp" else ["-ptx"]
    includes = [f"-I{folder}", *(tvm_ffi_includes() if is_entry else [])]
    output = folder / file.with_suffix(".out")
    command = [nvcc, "-std=c++17", "-O2", machine, *flags, *includes, str(folder / file), "-o", str(output)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        return f"{file}: does not compile\n{ended.stderr}"
    if is_entry and b"__tvm_ffi_run" not in output.read_bytes():
        return f"{file}: no entry `run`"
    return ""


def main() -> int:
    nvcc, tools, work = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    sys.path.insert(0, tools)
    from pack_solution import pack  # noqa: PLC0415: the tools' folder is an argument

    files = pack(work)
    faults = [f"{fault}: a runner does not have it" for fault in foreign_includes(work, files)]
    sources = [file for file in files if file.suffix in (".cu", ".cpp")]
    with ThreadPoolExecutor(2) as pool:
        faults += [fault for fault in pool.map(lambda file: compile_file(nvcc, work, file), sources) if fault]
    print("\n".join(faults) if faults else f"{len(sources)} files compile")
    return 1 if faults or len(sources) < 2 else 0


if __name__ == "__main__":
    sys.exit(main())
