"""The number of copies from the CPU to the device does not grow with the batch or the step."""

from __future__ import annotations

import importlib

import pytest

from lib_pivotal.core.events import Control
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.setup import prepare
from tests.unit.toy import ToyModel, toy_config, write_images

_PLACES = (
    "lib_pivotal.core.train.batches",
    "lib_pivotal.core.train.prediction",
    "lib_pivotal.core.textual_inversion.text_conditioner",
    "lib_pivotal.core.textual_inversion.conditioning",
)


def copies_per_step(tmp_path, monkeypatch, **changes) -> list[int]:
    """How often something is copied to the device in each of some steps."""
    calls: list[int] = []

    def counted(tensor, device):
        calls.append(tensor.numel())
        return tensor

    for place in _PLACES:
        monkeypatch.setattr(importlib.import_module(place), "to_device", counted)
    captions = {"shuffle_tags": False, "tag_dropout": 0.0, "name_only": 0.0, "caption_dropout": 0.0}
    config = toy_config(tmp_path / "data", steps=8, **{**captions, **changes})
    setup = prepare(
        config, ToyModel(), cache=tmp_path / "cache", group=SingleProcess(), progress=lambda *_: None,
        stopped=lambda: False,
    )  # fmt: skip
    loop = Loop(setup, None, lambda _: None, Control(), SingleProcess())
    counts = []
    with setup.attached():
        for step in range(8):
            calls.clear()
            loop.train_step(step)
            counts.append(len(calls))
    return counts


@pytest.fixture
def folder(tmp_path):
    # All images in one bucket, so that every step has one batch.
    write_images(tmp_path / "data", 2)
    (tmp_path / "data" / "00.png").unlink()
    return tmp_path


@pytest.mark.parametrize("batch_size", [1, 6])
def test_a_step_copies_its_random_numbers_its_places_and_its_tokens(folder, monkeypatch, batch_size):
    # Noise, timesteps, places of the latents, token ids, places of the trained vectors; and the latents, which are there.
    counts = copies_per_step(folder, monkeypatch, batch_size=batch_size)
    assert counts[:4] == [6] * 4
    # Once the embeddings are frozen, no tokens any more.
    assert counts[-1] == 4


def test_captions_that_are_not_trained_are_not_copied_again(folder, monkeypatch):
    counts = copies_per_step(folder, monkeypatch, batch_size=2, caption_dropout=1.0)
    assert counts[0] == 6
    assert set(counts[1:]) == {4}
