"""The same checkpoint computes the same numbers in the webui and headless, through the same ports."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from lib_pivotal.core.config.io import from_dict
from lib_pivotal.core.events import Control
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.train.run import Folders
from lib_pivotal.core.train.run import train as run
from tests.e2e.images import settings
from tests.e2e.recognized_checkpoint import next_to_configuration
from tests.e2e.runs import assert_delta_is_ours, assert_recorded_passes_learn_the_same, losses_of, train
from tests.e2e.server import Webui, find_webui, kind_of

pytest.importorskip("diffusers")
sys.path.insert(0, str(Path(__file__).parent / "probe_extension"))
from pivotal_probe.numbers import numbers_of
from pivotal_probe.run_checks import Losses

TEXT = "a large red star, probeword, left"


def load_headless(file: str, family: str) -> Any:
    """The webui's checkpoint of a family in the other host."""
    from lib_pivotal.host.diffusers.model import load_model

    if kind_of(find_webui()) == "a1111":
        return load_model(Path(file), device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        return load_model(next_to_configuration(Path(file), family, Path(folder)), device="cpu")


def compare_hosts(webui: Webui) -> dict[str, Any]:
    """Text encoding, noise prediction, latents, schedule and LoRA keys of the webui's checkpoint, both ways."""
    theirs = webui.post("/pivotal-test/numbers", {"text": TEXT})
    model = load_headless(theirs["file"], theirs["family"])
    assert model.family == theirs["family"]
    assert model.is_v_prediction == theirs["v"]
    for name, value in numbers_of(model, TEXT).items():
        other = torch.tensor(theirs[name])
        assert other.shape == value.shape, name
        assert torch.allclose(value, other, rtol=1e-4, atol=1e-5 * max(1.0, float(other.abs().max()))), name
    unread = FAMILIES[model.family].unread_layers
    keys = {target.key for target in model.lora_targets() if not target.key.startswith(unread)}
    assert keys == {key for key in theirs["keys"] if not key.startswith(unread)}
    return theirs


def compare_losses(webui: Webui, data: Path, folder: Path, name: str) -> None:
    """A run with the same seed and images has the same losses in the webui and headless, whose bundle acts in the webui.

    Args:
        webui: with the checkpoint to train selected.
        data: the images.
        folder: empty, for the headless run.
        name: of the bundle.
    """
    config = settings(data, f"same_{name}", steps=4, sample_every=0)
    theirs = losses_of(train(webui, config))
    numbers = webui.post("/pivotal-test/numbers", {"text": "x"})
    losses = Losses()
    (folder / "run").mkdir()
    folders = Folders(folder / "run", folder / "bundles", folder / "cache")
    model = load_headless(numbers["file"], numbers["family"])
    run(from_dict(config), model, None, [losses], Control(), folders)
    assert len(theirs) == 4
    assert losses.found == pytest.approx(theirs, rel=1e-3)
    bundle = webui.data / "models" / "Lora" / f"headless_{name}.safetensors"
    shutil.copy(folder / "bundles" / f"{config['output_name']}.safetensors", bundle)
    assert_delta_is_ours(webui, bundle.stem)


@pytest.mark.long
def test_both_hosts_have_the_same_losses(server: Webui, data: Path, tmp_path: Path) -> None:
    server.choose("random")
    compare_losses(server, data, tmp_path, "random")


def test_both_hosts_compute_the_same(webui: Webui) -> None:
    assert compare_hosts(webui)["family"] == "sd1"


def test_recorded_passes_learn_the_same(server: Webui, data: Path) -> None:
    server.choose("random")
    assert_recorded_passes_learn_the_same(server, data, "random")
