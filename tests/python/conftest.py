import importlib
import importlib.util
import pathlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from frameworks import FRAMEWORKS


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> Any:
    """Each framework in turn; skipped, with the reason, where it is not here."""
    return request.param()


@pytest.fixture(scope="module")
def models() -> Iterator[Any]:
    """flashinfer_bench.data's models without the package itself, whose __init__ imports PyTorch."""
    spec = importlib.util.find_spec("flashinfer_bench")
    if spec is None or spec.origin is None:
        pytest.skip("flashinfer-bench is not installed")
    for name, folder in (("flashinfer_bench", ""), ("flashinfer_bench.data", "data")):
        package = types.ModuleType(name)
        package.__path__ = [str(pathlib.Path(spec.origin).parent / folder)]
        sys.modules[name] = package
    names = ("definition", "solution", "trace")
    yield types.SimpleNamespace(**{name: importlib.import_module(f"flashinfer_bench.data.{name}") for name in names})
    for name in [name for name in sys.modules if name.split(".")[0] == "flashinfer_bench"]:
        del sys.modules[name]
