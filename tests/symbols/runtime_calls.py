"""The library calls no function of CUDA's runtime that waits, allocates, frees, copies or sets memory, but to set up a group.

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

# In the objects of a group of ranks (src/ep) alone: its table, stream and events, made and unmade once (state.cpp, group.cpp), and
# what orders the two streams of a call (call.cpp). EpGroup::check() is its only wait.
ALLOWED_TO_GROUPS = {
    "state.cpp.o": {
        "cudaDeviceGetStreamPriorityRange",
        "cudaEventCreateWithFlags",
        "cudaEventDestroy",
        "cudaMalloc",
        "cudaStreamCreateWithPriority",
        "cudaStreamDestroy",
        "cudaStreamQuery",
    },
    "group.cpp.o": {"cudaFree", "cudaMemcpy"},
    "call.cpp.o": {"cudaEventRecord", "cudaStreamWaitEvent"},
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
    refused = set()
    for part in listing.split("\n\n"):
        allowed = ALLOWED | ALLOWED_TO_GROUPS.get(part.lstrip("\n").partition(":")[0], set())
        refused |= runtime_calls(part) - allowed
    for name in sorted(refused):
        print(f"{library} calls {name}: the operator only launches; see {__file__}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
