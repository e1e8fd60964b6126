"""The package as a thing to install and import."""

import pathlib
import re
import subprocess
import sys

import blockmoe

ROOT = pathlib.Path(__file__).resolve().parents[2]


def in_new_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_version_is_the_librarys():
    header = (ROOT / "include/blockmoe/version.h").read_text()
    assert f'BLOCKMOE_VERSION "{blockmoe.__version__}"' in header


def test_the_package_is_the_installed_one_and_typed():
    folder = pathlib.Path(blockmoe.__file__).parent
    assert ROOT / "python" not in folder.parents
    assert (folder / "py.typed").exists()


def test_importing_takes_less_than_300_ms():
    # Without frameworks: where NumPy is installed TVM-FFI imports it, which takes as long again.
    absent = "import sys; sys.modules['torch'] = sys.modules['numpy'] = None"
    code = f"{absent}; import time; t = time.perf_counter(); import blockmoe; print(time.perf_counter() - t)"
    assert min(float(in_new_process(code)) for _ in range(5)) < 0.3


def test_the_binary_needs_no_framework_and_no_cuda_library():
    # The driver, NVRTC and NCCL are loaded by name where a call needs them.
    binary = pathlib.Path(blockmoe.__file__).with_name("libblockmoe_core.so").read_bytes()
    needed = set(re.findall(rb"\0(lib[a-zA-Z0-9_+-]+\.so[.0-9]*)(?=\0)", binary))
    allowed = {b"libtvm_ffi.so", b"libstdc++.so.6", b"libm.so.6", b"libgcc_s.so.1", b"libc.so.6", b"libblockmoe_core.so"}
    assert {b"libtvm_ffi.so", b"libstdc++.so.6"} <= needed
    assert {name for name in needed - allowed if not name.startswith((b"libcuda.so", b"libnvrtc", b"libnccl.so"))} == set()
