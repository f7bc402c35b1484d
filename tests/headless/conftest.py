"""One small random model for all headless tests."""

from __future__ import annotations

import pytest

pytest.importorskip("diffusers", reason="the headless environment (run.py sets it up) is not there")
torch = pytest.importorskip("torch")

from lib_pivotal.host.diffusers import load  # noqa: E402
from tests.headless.small import SmallModel, write_small_model  # noqa: E402


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    """The model's files."""
    return write_small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def model(small: SmallModel):
    """The model, loaded from its file on the CPU."""
    return load(small.file, device="cpu")
