"""The library calls no function of CUDA's runtime that waits, allocates, frees, copies or sets memory.

Usage: runtime_calls.py NM LIBRARY.a

Reads the undefined symbols of the archive's objects: what is not in ALLOWED fails, so a new call is a decision made here.
"""

import re
import subprocess
import sys

ALLOWED = {
    # launches
    "cudaLaunchKernel",
    "cudaLaunchKernelExC",
    # once, at bind: kernels loaded, their shared memory allowed, tensor maps made
    "cudaFuncGetAttributes",
    "cudaFuncSetAttribute",
    "cudaGetDriverEntryPointByVersion",
    # questions that the host answers
    "cudaDeviceGetAttribute",
    "cudaDriverGetVersion",
    "cudaGetDevice",
    "cudaGetDeviceCount",
    "cudaGetDeviceProperties",
    "cudaGetErrorName",
    "cudaGetErrorString",
    "cudaGetLastError",
    "cudaPointerGetAttributes",
    "cudaSetDevice",
}


def runtime_calls(listing: str) -> set[str]:
    """Names of the runtime's public functions among nm's undefined symbols, without version suffixes."""
    return {name for name in re.findall(r"\bU (cuda[A-Z]\w*?)(?:_v\d+|_ptsz)?$", listing, flags=re.MULTILINE)}


def main() -> int:
    nm, library = sys.argv[1:]
    listing = subprocess.run([nm, "--undefined-only", library], check=True, capture_output=True, text=True).stdout
    found = runtime_calls(listing)
    if not found & {"cudaLaunchKernel", "cudaLaunchKernelExC"}:
        print(f"{library}: no launch found: was it built with CUDA?")
        return 1
    refused = sorted(found - ALLOWED)
    for name in refused:
        print(f"{library} calls {name}: the operator only launches; see {__file__}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
