#!/usr/bin/env python3
"""Runs clang-tidy over the host code of one build folder; exits 1 when it finds something.

Host code is what compile_commands.json lists of the checkout's own .cpp and .c files: each one once, CUDA's files not, nor the
tests that compile kernels for the host (tests/unit/device_on_host), whose names are CUDA's.
"""

import argparse
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def host_commands(build: pathlib.Path) -> list[dict[str, str]]:
    """Without GCC's precompiled headers, which are not clang's: so a file that leans on one is found too. Without device_on_host: a
    file that is compiled with it and without is looked at as the rest of the project sees it."""
    entries = json.loads((build / "compile_commands.json").read_text())
    entries = [entry for entry in entries if "device_on_host" not in entry["command"]]
    for entry in entries:
        entry["command"] = re.sub(r"-Winvalid-pch|-include \S*cmake_pch\.\S*", "", entry["command"])
    return entries


def host_files(entries: list[dict[str, str]], build: pathlib.Path) -> list[str]:
    files = {pathlib.Path(entry["directory"], entry["file"]).resolve() for entry in entries}
    ours = [f for f in files if f.suffix in (".cpp", ".c") and f.is_relative_to(ROOT) and build not in f.parents]
    return sorted(str(f.relative_to(ROOT)) for f in ours)


def make_headers(build: pathlib.Path) -> None:
    """Headers that the build makes, and nothing else of it."""
    made = subprocess.run(
        ["ninja", "-C", build, "-t", "targets", "rule", "CUSTOM_COMMAND"], capture_output=True, text=True, check=True
    )
    headers = [name for name in made.stdout.split() if name.endswith(".h")]
    if headers:
        subprocess.run(["ninja", "-C", build, "--quiet", *headers], check=True)


def check(clang_tidy: pathlib.Path, database: pathlib.Path, file: str) -> tuple[str, int, str, float]:
    start = time.monotonic()
    # GCC's builtin vector headers and clang's differ: -Wno-... silences what only clang's front end would say of them.
    command = [clang_tidy, "--quiet", "-p", database, "--extra-arg=-Wno-unknown-warning-option", file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    output = done.stdout if done.returncode == 0 else done.stdout + done.stderr
    return file, done.returncode, output.strip(), time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="folder with compile_commands.json")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--times", action="store_true", help="print each file's seconds")
    parser.add_argument("files", nargs="*", help="only these, by their paths in the checkout")
    arguments = parser.parse_args()

    clang_tidy = ROOT / ".venv/bin/clang-tidy"
    build = arguments.build.resolve()
    make_headers(build)
    entries = host_commands(build)
    files = arguments.files or host_files(entries, build)
    if not files:
        print(f"tidy: no host files in {build}/compile_commands.json", file=sys.stderr)
        return 1

    failed = 0
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        database = pathlib.Path(folder)
        (database / "compile_commands.json").write_text(json.dumps(entries))
        for file, code, output, seconds in pool.map(lambda f: check(clang_tidy, database, f), files):
            failed += code != 0
            if code != 0:
                print(f"{file}:\n{output}", flush=True)
            if arguments.times:
                print(f"{seconds:6.1f} s  {file}", flush=True)
    print(f"tidy: {len(files)} files, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
