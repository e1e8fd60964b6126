"""Every tile of CUTLASS's product multiplies on tcgen05: its machine code, not a fallback's.

Usage: tile_code.py CUOBJDUMP OBJECT...

Each object is one tile, tile_<M>x<N>.cu's or tile_swapped_<M>x<N>.cu's, with a kernel for each type of output. Both must be for
sm_100a, multiply four times a K block of 128 by UTCQMMA (tcgen05.mma of 8-bit floats, 32 of K each; .2CTA where two SMs share a tile)
and use no other matrix instruction.
"""

import os
import pathlib
import re
import subprocess
import sys

KERNELS = 2  # f32 and bf16
MULTIPLICATIONS = 4
OTHER_PRODUCTS = ("HMMA", "QMMA", "IMMA", "HGMMA", "QGMMA", "UTCHMMA", "UTCIMMA")


def dumped(cuobjdump: str, option: str, file: str) -> str:
    # nvdisasm lies beside it.
    path = os.pathsep.join([str(pathlib.Path(cuobjdump).parent), os.environ.get("PATH", "")])
    return subprocess.run([cuobjdump, option, file], check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}).stdout


def faults(cuobjdump: str, file: str) -> list[str]:
    two_sms = "tile_256" in file
    sass = dumped(cuobjdump, "--dump-sass", file)
    functions = re.split(r"^\s*Function : ", sass, flags=re.MULTILINE)[1:]
    found = [f"{len(functions)} kernels, expected {KERNELS}"] if len(functions) != KERNELS else []
    architectures = set(re.findall(r"^arch = (\S+)$", sass, flags=re.MULTILINE))
    if architectures != {"sm_100a"}:
        found.append(f"for {sorted(architectures)}, expected sm_100a")
    for number, function in enumerate(functions):
        instructions = re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", function, flags=re.MULTILINE)
        products = [name for name in instructions if name.split(".")[0] == "UTCQMMA"]
        if len(products) != MULTIPLICATIONS or any((".2CTA" in name) != two_sms for name in products):
            found.append(f"kernel {number}: {products}, expected {MULTIPLICATIONS} of UTCQMMA{'.2CTA' if two_sms else ''}")
        others = sorted({name for name in instructions if name.split(".")[0] in OTHER_PRODUCTS})
        if others:
            found.append(f"kernel {number}: multiplies by {others} too")
    return found


def main() -> int:
    cuobjdump, *files = sys.argv[1:]
    failed = not files
    for file in files:
        for fault in faults(cuobjdump, file):
            print(f"{pathlib.Path(file).name}: {fault}")
            failed = True
    print(f"{len(files)} tiles")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
