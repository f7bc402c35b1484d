"""The fixtures that several files of unit tests use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.toy import write_images


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of small images with captions that mention ``zog_x``."""
    write_images(tmp_path / "data")
    return tmp_path / "data"
