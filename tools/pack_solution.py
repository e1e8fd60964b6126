#!/usr/bin/env python3
"""Puts a runner's workspace together: solution/ and, beside its entry file, the files of kernels/.

They are there as they are, but for a name: a file for the host, x.cpp, is x.cu, since the runner's builder gives the toolkit's
headers to nvcc alone.

Usage: pack_solution.py FOLDER [--arch sm_100a]     (FOLDER is replaced where it exists)

Without --arch it needs nothing but the toolkit and runs on every GPU. With sm_100a it has the products for a B200 too, which want
CUTLASS's headers from the runner's machine: docs/python.md.
"""

import argparse
import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = {".cu", ".cuh", ".h", ".cpp"}
ARCHITECTURES = ("sm_100a",)
# What needs a package that a runner may lack; beside each of the first is what stands in for it. The cubins of trtllm/ are left out of
# both: a runner's call takes the policy auto, which never chooses them.
CUTLASS = ("blackwell/cutlass/grouped.cuh", "blackwell/cutlass/tile*.c*")
TRTLLM = ("blackwell/trtllm/configs.cpp",)
STANDS_IN_FOR_CUTLASS = ("blackwell/cutlass/no_tiles.cpp",)


def left_out(arch: str | None) -> tuple[str, ...]:
    return TRTLLM + (STANDS_IN_FOR_CUTLASS if arch == "sm_100a" else CUTLASS)


def pack(folder: pathlib.Path, arch: str | None = None) -> list[pathlib.Path]:
    """Returns the workspace's source files, relative to `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "solution", folder)
    for path in sorted((ROOT / "kernels").rglob("*")):
        relative = path.relative_to(ROOT / "kernels")
        if path.suffix in SOURCES and not any(relative.match(pattern) for pattern in left_out(arch)):
            to = folder / relative
            if to.suffix == ".cpp":
                to = to.with_suffix(".cu")
            if to.exists():
                sys.exit(f"{path.relative_to(ROOT)}: the workspace has a {to.relative_to(folder)} already; rename one of the two")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.suffix in SOURCES)


def main() -> None:
    parser = argparse.ArgumentParser(description="Put a runner's workspace together.")
    parser.add_argument("folder", type=pathlib.Path, help="replaced where it exists")
    parser.add_argument("--arch", choices=ARCHITECTURES, help="with the products for this architecture")
    arguments = parser.parse_args()
    files = pack(arguments.folder, arguments.arch)
    print(f"{arguments.folder}: config.toml and {len(files)} source files")


if __name__ == "__main__":
    main()
