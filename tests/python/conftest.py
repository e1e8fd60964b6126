from typing import Any

import pytest

from frameworks import FRAMEWORKS


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> Any:
    """Each framework in turn; skipped, with the reason, where it is not here."""
    return request.param()
