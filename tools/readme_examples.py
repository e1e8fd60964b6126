#!/usr/bin/env python3
"""Runs the examples of a Markdown file as they stand.

Every fenced block whose language is cpp, c or sh is an example, unless the line before it is a comment that begins with
`<!-- not run:` and says why. A cpp or c block is built by CMake against the installed library, as a reader would, and run;
one without a main() is only compiled. An sh block is run by bash, which stops at the first command that fails, in an empty folder with
the installed `blockmoe` on the PATH. An example passes when it exits with 0.

    readme_examples.py list README.md                                  names, one a line: cpp.1, c.1, sh.1, ...
    readme_examples.py run README.md --name cpp.1 --prefix P --work W  runs one; W is a folder for what it makes
"""

import argparse
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys

LANGUAGES = ("cpp", "c", "sh")
NOT_RUN = "<!-- not run:"

PROJECT = """\
cmake_minimum_required(VERSION 3.25)
project(example LANGUAGES {language})
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_C_STANDARD 11)
find_package(blockmoe REQUIRED)
add_{kind}(example example.{suffix})
target_link_libraries(example PRIVATE blockmoe::blockmoe)
"""


@dataclasses.dataclass
class Example:
    name: str  # language and its count in the file, from 1: "cpp.2"
    language: str
    line: int  # of the opening fence, from 1
    text: str


class Malformed(Exception):
    """A fence that is not closed, or a `not run` comment without a reason."""


def examples(markdown: str, languages: tuple[str, ...] = LANGUAGES) -> list[Example]:
    """The examples of a file in their order. (Python's are run by tests/python, where the wheel is installed.)"""
    found: list[Example] = []
    lines = markdown.splitlines()
    number = 0
    while number < len(lines):
        opening = lines[number]
        if not opening.startswith("```"):
            number += 1
            continue
        fence = opening[: len(opening) - len(opening.lstrip("`"))]
        language = opening[len(fence) :].strip()
        closing = next((i for i in range(number + 1, len(lines)) if lines[i].rstrip() == fence), None)
        if closing is None:
            raise Malformed(f"line {number + 1}: {opening}: this block is not closed")
        if language in languages and not is_not_run(lines, number):
            count = 1 + sum(e.language == language for e in found)
            text = "\n".join(lines[number + 1 : closing]) + "\n"
            found.append(Example(f"{language}.{count}", language, number + 1, text))
        number = closing + 1
    return found


def is_not_run(lines: list[str], fence: int) -> bool:
    before = next((line.strip() for line in reversed(lines[:fence]) if line.strip()), "")
    if not before.startswith(NOT_RUN):
        return False
    if not before.removeprefix(NOT_RUN).removesuffix("-->").strip():
        raise Malformed(f"line {fence}: {before}: say why this block is not run")
    return True


def run(example: Example, prefix: pathlib.Path, work: pathlib.Path) -> int:
    """Builds and runs one example in a fresh folder `work`; the exit code of the first command that fails, or 0."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    if example.language == "sh":
        environment = os.environ | {"PATH": f"{prefix / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        command = ["bash", "-euxo", "pipefail", "-c", example.text]
        return subprocess.run(command, cwd=work, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
    language = {"cpp": "CXX", "c": "C"}[example.language]
    is_program = re.search(r"\bmain\(", example.text) is not None
    kind = "executable" if is_program else "library"
    (work / f"example.{example.language}").write_text(example.text)
    (work / "CMakeLists.txt").write_text(PROJECT.format(language=language, kind=kind, suffix=example.language))
    for command in (
        ["cmake", "-S", work, "-B", work / "build", f"-DCMAKE_PREFIX_PATH={prefix}"],
        ["cmake", "--build", work / "build"],
        *([[work / "build/example"]] if is_program else []),
    ):
        code = subprocess.run(command, cwd=work, stdin=subprocess.DEVNULL, check=False).returncode
        if code != 0:
            return code
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("list", "run"):
        commands.add_parser(command).add_argument("file", type=pathlib.Path)
    runs = commands.choices["run"]
    runs.add_argument("--name", required=True)
    runs.add_argument("--prefix", type=pathlib.Path, required=True, help="where blockmoe is installed")
    runs.add_argument("--work", type=pathlib.Path, required=True, help="folder for what the example makes; emptied first")
    arguments = parser.parse_args()

    try:
        found = examples(arguments.file.read_text())
    except Malformed as error:
        print(f"{arguments.file}: {error}", file=sys.stderr)
        return 2
    if arguments.command == "list":
        print("\n".join(e.name for e in found))
        return 0
    example = next((e for e in found if e.name == arguments.name), None)
    if example is None:
        print(f"{arguments.file}: no example {arguments.name}; there are {[e.name for e in found]}", file=sys.stderr)
        return 2
    print(f"{arguments.file}:{example.line}: {example.name}", flush=True)
    return run(example, arguments.prefix.resolve(), arguments.work.resolve())


if __name__ == "__main__":
    sys.exit(main())
