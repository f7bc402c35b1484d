"""Tests that need CUDA; without it they are all skipped, with a warning."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(autouse=True)
def device() -> torch.device:
    """The GPU; skips the test if there is none."""
    if not torch.cuda.is_available():
        message = "NO CUDA FOUND: nothing was tested on a GPU."
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    return torch.device("cuda")
