#!/usr/bin/env python3
"""`make bench`: the comparison with every peer on this machine's GPU, from nothing but a build of blockmoe.

    bench.py --build build/cuda --work build/peers [--commit C] [--dry-run] [-- OPTIONS OF compare.py ...]

Makes the environments of the peers, blockmoe's wheel and FlashInfer's module in --work, each once; then the comparison, the
stages and the report, which land in --work too. Says why, and ends with 0, where it can't run. --dry-run prints what it
would run.
"""

import argparse
import dataclasses
import hashlib
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTHON = "python3.12"  # of the wheels that requirements/ names
SITES = ("deepgemm", "sglang", "flashinfer")
# Folders in front of the base environment's packages.
FOLDERS_OF = {
    "deepgemm_products": ("deepgemm",),
    "deepgemm_mega": ("deepgemm", "sglang"),
    "sglang_triton": ("sglang",),
    "sglang_deepgemm": ("deepgemm", "sglang"),
    "flashinfer_cutlass": ("flashinfer",),
}
STAGES_AT = (1, 16, 64, 128, 512, 901, 2048, 4096, 16384)


class CannotRun(Exception):
    """Why there is no comparison on this machine."""


@dataclasses.dataclass(frozen=True)
class Step:
    what: str
    command: list[str]
    made: pathlib.Path | None = None
    """There: nothing to do. A stamp is made when the command has ended well, a file is the command's own."""
    stamp: bool = False
    may_fail: bool = False
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


def cuda_home() -> pathlib.Path:
    """The toolkit with nvcc, which packages compile with at their first calls: as cmake/BlockmoeCuda.cmake finds it."""
    named = [pathlib.Path(os.environ["CUDA_HOME"])] if "CUDA_HOME" in os.environ else []
    found = shutil.which("nvcc")
    on_path = [pathlib.Path(found).resolve().parents[1]] if found else []
    own = sorted(ROOT.glob(".venv/lib/python3*/site-packages/nvidia/cu13"))
    for home in [*named, *on_path, pathlib.Path("/usr/local/cuda"), *own]:
        if (home / "bin/nvcc").exists():
            return home
    raise CannotRun("no nvcc: the peers compile their kernels with it (`make setup CUDA=1` installs one)")


def need_gpu() -> None:
    if not any(pathlib.Path("/dev").glob("nvidia[0-9]*")):
        raise CannotRun("no NVIDIA GPU on this machine")
    if shutil.which(PYTHON) is None:
        raise CannotRun(f"no {PYTHON}: the peers' wheels are for it")


def contents(*files: pathlib.Path) -> str:
    """In a name: it is another one, and made anew, when what belongs into it changes."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def stamped(folder: pathlib.Path, requirements: pathlib.Path) -> pathlib.Path:
    return folder / f".installed-{contents(requirements)}"


def environments(work: pathlib.Path) -> list[Step]:
    base, requirements = work / "base", HERE / "requirements"
    pip = [str(base / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    exact = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r"]
    steps = [
        Step("an environment for all", [PYTHON, "-m", "venv", str(base)], base / "bin/python"),
        Step(
            "PyTorch, 2.5 GB to load",
            [*pip, *exact, str(requirements / "base.txt")],
            stamped(base, requirements / "base.txt"),
            stamp=True,
        ),
    ]
    for name in SITES:
        file, folder = requirements / f"{name}.txt", work / name
        command = [*pip, "--upgrade", "--target", str(folder), *exact, str(file)]
        steps.append(Step(name, command, stamped(folder, file), stamp=True, may_fail=True))
    return steps


def own_package(build: pathlib.Path, work: pathlib.Path) -> list[Step]:
    prefix, venv = work / "prefix", ROOT / ".venv/bin"
    options = [f"BLOCKMOE_PREFIX={prefix}", f"Python_EXECUTABLE={venv / 'python3'}"]
    wheel = [str(venv / "pip"), "wheel", str(ROOT), "--quiet", "--no-deps", "--no-build-isolation", "-w", str(work / "wheel")]
    wheel += [part for option in options for part in ("-C", f"cmake.define.{option}")]
    pip = [str(work / "base/bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    install = [
        *pip,
        "--no-deps",
        "--no-index",
        "--upgrade",
        "--target",
        str(work / "own"),
        "--find-links",
        str(work / "wheel"),
        "blockmoe",
    ]
    return [
        Step("blockmoe's library", ["cmake", "--install", str(build), "--prefix", str(prefix)]),
        Step("blockmoe's wheel", wheel),
        Step("blockmoe's package", install),
    ]


def measurements(build: pathlib.Path, work: pathlib.Path, cuda: pathlib.Path, commit: str, options: list[str]) -> list[Step]:
    python = str(work / "base/bin/python")
    module = work / f"flashinfer_moe-{contents(HERE / 'requirements/flashinfer.txt', HERE / 'build_flashinfer.py')}.so"
    packages = work / "base/lib" / PYTHON / "site-packages"
    build_module = [python, str(HERE / "build_flashinfer.py"), "--site", str(work / "flashinfer"), "--site", str(packages)]
    bench = [str(build / "bin/blockmoe"), "bench", "--profile", "model", "--commit", commit]
    ceilings, stages, comparison = work / "ceilings.json", work / "peers-stages.json", work / "peers.json"
    compare = [
        python,
        str(HERE / "compare.py"),
        "--bench",
        str(ceilings),
        "--json",
        str(comparison),
        "--logs",
        str(work / "logs"),
    ]
    compare += ["--reader", str(reader(build)), "--commit", commit, "--site", str(work / "own")]
    for peer, folders in FOLDERS_OF.items():
        compare += [part for folder in folders for part in ("--site", f"{peer}={work / folder}")]
    caches = {
        "CUDA_HOME": str(cuda),
        "DG_JIT_CACHE_DIR": str(work / "cache/deepgemm"),
        "SGLANG_JIT_CACHE_DIR": str(work / "cache/sglang"),
        "TRITON_CACHE_DIR": str(work / "cache/triton"),
        "TRTLLM_DG_CACHE_DIR": str(work / "cache/flashinfer"),
        "BLOCKMOE_FLASHINFER_MODULE": str(module),
    }
    report = [python, str(HERE / "report.py"), str(comparison), "--stages", str(stages)]
    report += ["--html", str(work / "peers.html"), "--markdown", str(work / "peers.md")]
    return [
        Step(
            "FlashInfer's module",
            [*build_module, "--output", str(module)],
            module,
            may_fail=True,
            environment={"CUDA_HOME": str(cuda)},
        ),
        Step("ceilings", [*bench, "--tokens", "1", "--tokens", "128", "--json", str(ceilings)]),
        Step("comparison", [*compare, *options], environment=caches),
        Step(
            "stages", [*bench, *(part for t in STAGES_AT for part in ("--tokens", str(t))), "--stages", "--json", str(stages)]
        ),
        Step("report", report),
    ]


def reader(build: pathlib.Path) -> pathlib.Path:
    found = sorted(build.rglob("libblockmoe_reader.so"))
    return found[0] if found else build / "bench/peers/libblockmoe_reader.so"


def run(steps: list[Step]) -> int:
    for step in steps:
        if step.made is not None and step.made.exists():
            continue
        print(f"bench: {step.what}", file=sys.stderr, flush=True)
        if step.stamp and step.made is not None and step.made.parent.exists():
            for old in step.made.parent.glob(".installed-*"):
                old.unlink()
        done = subprocess.run(step.command, env={**os.environ, **step.environment}, check=False)
        if done.returncode == 0:
            if step.stamp and step.made is not None:
                step.made.touch()
        elif step.may_fail:
            print(f"bench: {step.what} failed; the peers that need it are left out", file=sys.stderr)
        else:
            print(f"bench: {step.what} failed: {shlex.join(step.command)}", file=sys.stderr)
            return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--build", type=pathlib.Path, required=True)
    options.add_argument("--work", type=pathlib.Path, required=True)
    options.add_argument("--commit", default="")
    options.add_argument("--dry-run", action="store_true")
    options.add_argument("--available", action="store_true", help="exit 0 where it can run; else say why not, and exit 1")
    options.add_argument("compare", nargs="*", help="options of compare.py, after --")
    given = options.parse_args(arguments)
    try:
        if not given.dry_run:
            need_gpu()
        if given.available:
            return 0
        cuda = pathlib.Path("/usr/local/cuda") if given.dry_run else cuda_home()
    except CannotRun as reason:
        print(f"SKIPPED: {reason}")
        return 1 if given.available else 0
    build, work = given.build.resolve(), given.work.resolve()
    steps = [*environments(work), *own_package(build, work), *measurements(build, work, cuda, given.commit, given.compare)]
    if given.dry_run:
        for step in steps:
            print(f"# {step.what}\n{shlex.join(step.command)}")
        return 0
    work.mkdir(parents=True, exist_ok=True)
    result = run(steps)
    if result == 0:
        print(f"bench: {work / 'peers.html'}")
    return result


if __name__ == "__main__":
    sys.exit(main())
