"""python -m blockmoe: what needs the package rather than the command `blockmoe`."""

import argparse
import pathlib
import shlex

from . import __version__, _make_dataset, _pack_solution


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m blockmoe", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack-solution", help="write the operator as a Solution of flashinfer-bench (JSON)")
    pack.add_argument(
        "--form",
        choices=_pack_solution.FORMS,
        required=True,
        help="python calls this package, cuda is the kernels' sources, flashinfer calls what they are compared with",
    )
    pack.add_argument(
        "--arch",
        choices=_pack_solution.ARCHITECTURES,
        help="form cuda with the products for this architecture too, which want CUTLASS's headers on the runner's machine",
    )
    pack.add_argument("--name", help="of the solution (blockmoe_<form>, or the baseline's in the benchmark)")
    pack.add_argument("file", type=pathlib.Path)
    dataset = commands.add_parser("make-dataset", help="write a data set of flashinfer-bench: 19 shapes, both solutions")
    dataset.add_argument("folder", type=pathlib.Path, help="empty or not there")
    arguments = parser.parse_args()
    try:
        if arguments.command == "make-dataset":
            print(f"{arguments.folder}: {_make_dataset.write(arguments.folder)} workloads")
        else:
            if arguments.arch and arguments.form != "cuda":
                parser.exit(2, f"--arch: {arguments.arch} with --form {arguments.form}, expected --form cuda, which is compiled\n")
            count = _pack_solution.write(arguments.form, arguments.file, arguments.name, arguments.arch)
            print(f"{arguments.file}: {count} source file{'' if count == 1 else 's'}")
            if arguments.arch:
                for variable, value in _pack_solution.environment(arguments.arch).items():
                    print(f"export {variable}={shlex.quote(value)}")
    except OSError as error:
        parser.exit(2, f"{error.filename}: {error.strerror}\n")
    except ModuleNotFoundError as error:
        parser.exit(2, f"{arguments.command} needs {error.name}, which is not installed\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
