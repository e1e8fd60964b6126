"""python -m blockmoe: what needs the package rather than the command `blockmoe`."""

import argparse
import pathlib

from . import __version__
from ._pack_solution import FORMS, write


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m blockmoe", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack-solution", help="write the operator as a Solution of flashinfer-bench (JSON)")
    pack.add_argument("--form", choices=FORMS, required=True, help="python calls this package, cuda is the kernels' sources")
    pack.add_argument("--name", help="of the solution (blockmoe_<form>)")
    pack.add_argument("file", type=pathlib.Path)
    arguments = parser.parse_args()
    try:
        count = write(arguments.form, arguments.file, arguments.name)
    except OSError as error:
        parser.exit(2, f"{arguments.file}: {error.strerror}\n")
    print(f"{arguments.file}: {count} source file{'' if count == 1 else 's'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
