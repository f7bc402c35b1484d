"""Embedding files in Forge-Neo, whose own reader is pickle's: nothing in them is run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from lib_pivotal.host.bundle_prompts.bundle_tools import WebuiBundleTools
from tests.contract.fake_webui import FakeWebui


class _Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> WebuiBundleTools:
    """The bundle tools in a webui with Forge-Neo's reader."""
    FakeWebui(monkeypatch).modules["safe"].__dict__["load"] = pickle.load
    return WebuiBundleTools()


def test_an_embedding_file_is_read(tools: WebuiBundleTools, tmp_path: Path) -> None:
    torch.save({"string_to_param": {"*": torch.ones(2, 8)}, "step": 5}, tmp_path / "word.pt")
    assert tools.load_safely(tmp_path / "word.pt")["string_to_param"]["*"].shape == (2, 8)


def test_a_file_that_would_run_something_is_refused(tools: WebuiBundleTools, tmp_path: Path) -> None:
    torch.save({"x": _Hostile(tmp_path / "was-run")}, tmp_path / "bad.pt")
    with pytest.raises(pickle.UnpicklingError):
        tools.load_safely(tmp_path / "bad.pt")
    assert not (tmp_path / "was-run").exists()
