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

# In the object of a group of ranks (src/ep/group.cpp) alone: its table, stream and events, made and unmade once, and what orders
# the two streams of a call. EpGroup::check() is its only wait.
GROUP = "group.cpp.o"
ALLOWED_TO_GROUPS = {
    "cudaDeviceGetStreamPriorityRange",
    "cudaEventCreateWithFlags",
    "cudaEventDestroy",
    "cudaEventRecord",
    "cudaFree",
    "cudaMalloc",
    "cudaMemcpy",
    "cudaStreamCreateWithPriority",
    "cudaStreamDestroy",
    "cudaStreamQuery",
    "cudaStreamWaitEvent",
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
    for_groups = runtime_calls("".join(part for part in listing.split("\n\n") if part.startswith(f"{GROUP}:")))
    others = runtime_calls("".join(part for part in listing.split("\n\n") if not part.startswith(f"{GROUP}:")))
    refused = sorted((others - ALLOWED) | (for_groups - ALLOWED - ALLOWED_TO_GROUPS))
    for name in refused:
        print(f"{library} calls {name}: the operator only launches; see {__file__}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
