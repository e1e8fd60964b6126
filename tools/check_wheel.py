#!/usr/bin/env python3
"""Fails unless a wheel is small and runs on the systems that the project promises: check_wheel.py FILE.

auditwheel has named the file after the oldest C library that its symbols allow.
"""

import pathlib
import re
import sys

MOST_MEGABYTES = 20
NEWEST_GLIBC = (2, 35)


def faults(file: pathlib.Path) -> list[str]:
    found = []
    megabytes = file.stat().st_size / 1e6
    if megabytes >= MOST_MEGABYTES:
        found.append(f"{megabytes:.1f} MB, expected less than {MOST_MEGABYTES}")
    tags = [tuple(map(int, tag)) for tag in re.findall(r"manylinux_(\d+)_(\d+)_", file.name)]
    if not tags or min(tags) > NEWEST_GLIBC:
        found.append(f"tag {file.stem.rsplit('-', 1)[1]}, expected manylinux_{NEWEST_GLIBC[0]}_{NEWEST_GLIBC[1]} or older")
    if "-py3-none-" not in file.name:
        found.append("for one Python alone, expected py3-none")
    return found


def main() -> int:
    file = pathlib.Path(sys.argv[1])
    found = faults(file)
    for fault in found:
        print(f"{file.name}: {fault}", file=sys.stderr)
    if not found:
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
