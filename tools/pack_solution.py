#!/usr/bin/env python3
"""Puts a runner's workspace together: solution/ and, beside its entry file, the files of kernels/.

They are there as they are, but for a name: a file for the host, x.cpp, is x.cu, since the runner's builder gives the toolkit's
headers to nvcc alone.

Usage: pack_solution.py FOLDER     (replaced where it exists)
"""

import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = {".cu", ".cuh", ".h", ".cpp"}
# Of a package that a runner lacks; beside it is what stands in for it.
LEFT_OUT = {"blackwell/trtllm/configs.cpp"}


def pack(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the workspace's source files, relative to `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "solution", folder)
    for path in sorted((ROOT / "kernels").rglob("*")):
        if path.suffix in SOURCES and path.relative_to(ROOT / "kernels").as_posix() not in LEFT_OUT:
            to = folder / path.relative_to(ROOT / "kernels")
            if to.suffix == ".cpp":
                to = to.with_suffix(".cu")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.suffix in SOURCES)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    files = pack(pathlib.Path(sys.argv[1]))
    print(f"{sys.argv[1]}: config.toml and {len(files)} source files")
