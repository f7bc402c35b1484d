"""The number of copies from the CPU to the device does not grow with the batch or the step."""

from __future__ import annotations

import importlib

import pytest
from PIL import Image

from lib_pivotal.core.config.schema import Concept, Subset
from lib_pivotal.core.events import Control
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.setup import prepare
from tests.runs.harness import folders, run
from tests.unit.toy import ToyModel, toy_config, write_images

_PLACES = (
    "lib_pivotal.core.train.batches",
    "lib_pivotal.core.train.kept_names",
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


def kept(folder) -> dict:
    """Settings that keep the name of a bundle."""
    outcome, _ = run(toy_config(folder / "data", steps=1), folders(folder, "old"))
    new = Concept("mib_y", vectors=1, aliases=("left",))
    return {"start_from": str(outcome.bundle_path), "keep_names": 1.0, "concepts": (new,)}


def masked(folder) -> dict:
    """Settings with masks."""
    Image.new("L", (64, 64), 128).save(folder / "data" / "01-masklabel.png")
    return {"masks": "masklabel", "mask_floor": 0.1}


def regularized(folder) -> dict:
    """Settings by which half of the samples are predicted as before the training."""
    write_images(folder / "others", 2, name="hat")
    (folder / "others" / "00.png").unlink()
    others = Subset(str(folder / "others"), kind="regularization")
    return {"subsets": (Subset(str(folder / "data")), others), "regularization_share": 0.5,
            "regularization_target": "prior", "data_folder": ""}  # fmt: skip


MORE = {
    # Places of the masks, and the masks, which are there.
    "masks": (masked, 2),
    # Also the tokens and vectors of the second prediction.
    "masks and the rest": (lambda folder: {**masked(folder), "mask_prior": 0.5}, 4),
    # Noise and timesteps, and the tokens and vectors of another batch.
    "kept names": (kept, 4),
    # What a second batch draws; its captions are not trained.
    "prior": (regularized, 4),
    "DoRA": (lambda _folder: {"lora_kind": "dora"}, 0),
    "limit": (lambda _folder: {"max_weight_change": 0.01}, 0),
}


@pytest.mark.parametrize("name", MORE)
def test_what_a_setting_copies_more_depends_neither_on_the_batch_nor_on_the_step(folder, monkeypatch, name):
    settings, more = MORE[name]
    changes = settings(folder)
    small, large = (copies_per_step(folder, monkeypatch, batch_size=size, **changes) for size in (4, 16))
    assert small == large
    # In the first step, captions that never change are encoded.
    assert small[1:7] == [6 + more] * 6


def test_captions_that_are_not_trained_are_not_copied_again(folder, monkeypatch):
    counts = copies_per_step(folder, monkeypatch, batch_size=2, caption_dropout=1.0)
    assert counts[0] == 6
    assert set(counts[1:]) == {4}
