"""One small random model for all headless tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("diffusers", reason="the headless environment (run.py sets it up) is not there")
torch = pytest.importorskip("torch")

from lib_pivotal.host.diffusers import load  # noqa: E402
from tests.headless.small import SmallModel, write_small_model  # noqa: E402
from tests.unit.toy import write_images  # noqa: E402


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    """The model's files."""
    return write_small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def model(small: SmallModel):
    """The model, loaded from its file on the CPU."""
    return load(small.file, device="cpu")


@pytest.fixture
def settings(small, tmp_path):
    """Writes a settings file; returns its path."""
    write_images(tmp_path / "images", name="my_hero")

    def write(name="config.json", **values) -> Path:
        path = tmp_path / name
        config = {
            "checkpoint": str(small.file),
            "data_folder": str(tmp_path / "images"),
            "concepts": [{"name": "my_hero", "init_text": "red circle", "vectors": 2, "stop_at": 1.0}],
            "resolution": 64,
            "steps": 3,
            "batch_size": 2,
            "rank": 2,
            "sample_every": 0,
            "output_name": "hero",
            "name_only": 0.5,
            **values,
        }
        path.write_text(json.dumps(config))
        return path

    return write
