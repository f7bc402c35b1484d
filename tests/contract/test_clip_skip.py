"""The warning about training with another clip skip than the webui generates with."""

from __future__ import annotations

import types

import pytest

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.host.webui.clip_skip import clip_skip_problems
from tests.contract.fake_webui import FakeWebui


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The webui's settings."""
    options = types.SimpleNamespace(CLIP_stop_at_last_layers=2)
    FakeWebui(monkeypatch).modules["shared"].opts = options
    return options


def test_another_clip_skip_is_named_with_both_remedies(options: types.SimpleNamespace) -> None:
    (problem,) = clip_skip_problems(TrainConfig(clip_skip=1), "sd1")
    assert (problem.field, problem.severity) == ("clip_skip", "warning")
    assert "clip skip 1" in problem.message and "clip skip 2" in problem.message
    assert "Set it to 2" in problem.hint


def test_the_same_clip_skip_is_no_problem(options: types.SimpleNamespace) -> None:
    assert not clip_skip_problems(TrainConfig(clip_skip=2), "sd1")
    # SDXL always uses the layer that it was trained with.
    assert not clip_skip_problems(TrainConfig(clip_skip=1), "sdxl")
    options.CLIP_stop_at_last_layers = 1
    assert not clip_skip_problems(TrainConfig(clip_skip=1), "sd1")
