"""What Check reports about the checkpoint file that will be trained on, whether it is loaded or not."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import Problem
from lib_pivotal.host.a1111.host import A1111Host
from tests.contract.fake_webui import FakeWebui

_UNET = {"model.diffusion_model.input_blocks.0.0.weight": (4, 4, 3, 3)}
_TEXT = {"cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (4, 4)}
_VAE = {"first_stage_model.encoder.conv_in.weight": (4,), "first_stage_model.decoder.conv_out.weight": (4,)}
_WHOLE = {**_UNET, **_TEXT, **_VAE}


def _save(path: Path, names: dict[str, tuple[int, ...]]) -> None:
    save_file({name: torch.zeros(shape) for name, shape in names.items()}, path)


class _Case:
    """A webui whose selected checkpoint is ``model.safetensors`` in a folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.path = folder / "model.safetensors"
        self.webui = FakeWebui(monkeypatch)
        self.info = types.SimpleNamespace(filename=str(self.path), title="model.safetensors [12]", name="model")
        sd_models = self.webui.modules["sd_models"]
        sd_models.checkpoints_list[self.info.title] = sd_models.checkpoint_aliases[self.info.title] = self.info
        vars(self.webui.modules["shared"].opts)["sd_model_checkpoint"] = self.info.title
        self.webui.behave("sd_models", "get_closet_checkpoint_match", lambda _: self.info)
        self.choose_vae(None)

    def choose_vae(self, path: str | None) -> None:
        self.webui.behave("sd_vae", "resolve_vae", lambda _: self.webui.make("VaeResolution", vae=path))

    def load(self, **values: Any) -> None:
        """The checkpoint is in memory; a refiner, so that the model says something of its own."""
        embedders = [types.SimpleNamespace(wrapped=None)]
        model = types.SimpleNamespace(
            sd_checkpoint_info=self.info,
            is_sdxl=True,
            conditioner=types.SimpleNamespace(embedders=embedders),
            parameters=list,
            **values,
        )
        self.webui.modules["sd_models"].model_data.sd_model = model

    def problems(self, checkpoint: str = "") -> list[Problem]:
        return [
            item for item in A1111Host("").problems(TrainConfig(checkpoint=checkpoint)) if item.field == "checkpoint"
        ]


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> _Case:
    return _Case(monkeypatch, tmp_path)


@pytest.mark.parametrize("checkpoint", ["", "model"])
@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"lora_unet_x.lora_up.weight": (4, 4)}, "a LoRA, not a checkpoint"),
        ({"model.diffusion_model.joint_blocks.0": (4, 4)}, "SD3"),
        ({**_WHOLE, "model.diffusion_model.input_blocks.0.0.weight": (4, 9, 3, 3)}, "inpainting"),
        ({**_UNET, **_VAE}, "has no text encoder."),
        ({**_UNET, **_TEXT}, "has no VAE"),
    ],
)
def test_a_file_that_cannot_be_trained_on_is_reported(
    case: _Case, checkpoint: str, names: dict[str, tuple[int, ...]], words: str
) -> None:
    _save(case.path, names)
    (problem,) = case.problems(checkpoint)
    assert problem.is_error
    assert "model.safetensors" in problem.message
    assert words in problem.message
    assert problem.hint


@pytest.mark.parametrize(
    "content", [b"", b"<!doctype html>", b"version https://git-lfs.github.com/spec/v1\n", b"\x80\x02"]
)
def test_a_file_that_cannot_be_read_is_reported(case: _Case, content: bytes) -> None:
    case.path.write_bytes(content)
    (problem,) = case.problems()
    assert "model.safetensors cannot be read" in problem.message
    _save(case.path, _WHOLE)
    case.path.write_bytes(case.path.read_bytes()[:-10])
    assert "cannot be read" in case.problems()[0].message
    case.path.unlink()
    assert "cannot be read" in case.problems()[0].message


def test_a_whole_file_and_other_kinds_of_files_are_left_to_the_webui(case: _Case) -> None:
    _save(case.path, _WHOLE)
    assert case.problems() == []
    case.info.filename = str(case.path.with_suffix(".ckpt"))
    assert case.problems() == []


def test_a_vae_selected_in_the_webui_is_enough(case: _Case) -> None:
    _save(case.path, {**_UNET, **_TEXT})
    case.choose_vae("vae.safetensors")
    assert case.problems() == []


def test_a_loaded_checkpoint_is_checked_by_its_model(case: _Case) -> None:
    case.load()
    # Removed since, or replaced by garbage: the model in memory can still be trained on.
    assert [problem.message for problem in case.problems()] == ["model is an SDXL refiner."]
    case.path.write_bytes(b"")
    assert len(case.problems()) == 1
    # Without a VAE it was loaded with one of random numbers.
    _save(case.path, {**_UNET, **_TEXT})
    assert "has no VAE" in case.problems()[0].message


def test_the_family_to_train_is_that_of_the_model_or_of_the_file(case: _Case) -> None:
    host, chosen = A1111Host(""), TrainConfig(checkpoint="model")
    assert host.family(TrainConfig()) == "", "the file is missing"
    _save(case.path, _WHOLE)
    assert host.family(TrainConfig()) == host.family(chosen) == "sd1"
    # The model in memory was loaded from another file of that name.
    case.load()
    assert host.family(TrainConfig()) == "sdxl"
    case.info = types.SimpleNamespace(filename=str(case.path.with_suffix(".ckpt")), title="other", name="other")
    assert host.family(chosen) == "", "only its header would show it"
    case.webui.behave("sd_models", "get_closet_checkpoint_match", lambda _: None)
    assert host.family(chosen) == ""
