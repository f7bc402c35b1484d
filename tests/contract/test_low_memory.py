"""Training in a webui's low-memory mode: its hooks are removed for the run, and the run places the parts itself."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.core.ports import SampleRequest
from lib_pivotal.host.a1111.host import A1111Host
from lib_pivotal.host.a1111.lease import borrow
from lib_pivotal.host.a1111.low_memory import LowMemoryMode
from tests.contract.fake_webui import FakeWebui
from tests.contract.toy_webui import INFO, toy_webui

DEVICE = "meta"
"""Stands for a GPU: nothing is really moved, see :func:`place`."""


def place(network: Any, device: Any) -> Any:
    """Note on a network and everything in it where it has been moved."""
    for module in network.modules():
        module.place = str(device)
    return network


class _LowMemory:
    """Does to the toy model what the webui's module ``lowvram`` does to a real one."""

    def __init__(self, webui: FakeWebui, model: Any) -> None:
        self.last: Any = None

        def send_me_to_gpu(module: Any, _inputs: Any) -> None:
            if self.last is not None and self.last is not module:
                place(self.last, "cpu")
            self.last = place(module, DEVICE)

        send_me_to_gpu.__module__ = "modules.lowvram"
        self.hook = send_me_to_gpu
        vae = model.first_stage_model
        for network in (model.model, vae, model.cond_stage_model.wrapped.transformer):
            network.register_forward_pre_hook(send_me_to_gpu)

        def encode_wrap(x: Any) -> Any:
            send_me_to_gpu(vae, None)
            return x

        encode_wrap.__module__ = "modules.lowvram"
        vae.encode = vae.decode = encode_wrap
        model.lowvram = True
        place(model, "cpu")
        # One layer of the UNet stays on the device between generations, as some do with --lowvram.
        place(model.model.diffusion_model.input_blocks[0][0], DEVICE)
        webui.behave("lowvram", "send_everything_to_cpu", self.send_everything_to_cpu)

    def send_everything_to_cpu(self) -> None:
        if self.last is not None:
            place(self.last, "cpu")
        self.last = None


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A webui with a toy model in a low-memory mode; ``place`` of each module says where it is."""
    webui, model = toy_webui(monkeypatch)
    webui.modules["devices"].device = DEVICE
    monkeypatch.setattr(torch.nn.Module, "to", place)
    monkeypatch.setattr(
        "lib_pivotal.host.a1111.low_memory.move_own_tensors",
        lambda module, device: setattr(module, "place", str(device)),
    )
    monkeypatch.setattr(
        "lib_pivotal.host.a1111.low_memory._places",
        lambda model: [(module, module.place) for module in model.modules()],
    )
    mode = _LowMemory(webui, model)
    return types.SimpleNamespace(webui=webui, model=model, mode=mode)


def _parts(model: Any) -> dict[str, Any]:
    return {
        "unet": model.model.diffusion_model,
        "text_encoders": model.cond_stage_model.wrapped.transformer,
        "vae": model.first_stage_model,
    }


def _snapshot(model: Any) -> list[Any]:
    hooks = [(name, list(module._forward_pre_hooks.items())) for name, module in model.named_modules()]
    places = [(name, module.place) for name, module in model.named_modules()]
    return [hooks, places, dict(vars(model.first_stage_model)).get("encode"), model.lowvram]


@pytest.mark.parametrize("fails", [False, True])
def test_the_hooks_are_removed_for_the_run_and_put_back_as_they_were(low: Any, *, fails: bool) -> None:
    other = low.model.model.register_forward_pre_hook(lambda *_: None)
    before = _snapshot(low.model)
    low.model.first_stage_model.encode(0)
    with pytest.raises(RuntimeError) if fails else _nothing(), borrow(TrainConfig(), Control()):
        hooks = [hook for module in low.model.modules() for hook in module._forward_pre_hooks.values()]
        assert len(hooks) == 1, "the hook of another extension stays"
        assert not {"encode", "decode"} & set(vars(low.model.first_stage_model))
        # Generations, for example previews, ask this.
        assert low.model.lowvram is False
        if fails:
            raise RuntimeError
    assert _snapshot(low.model) == before
    assert low.mode.last is None
    assert other.id in low.model.model._forward_pre_hooks


def test_each_part_is_on_the_device_only_while_it_is_needed(low: Any) -> None:
    parts = _parts(low.model)
    with borrow(TrainConfig(), Control()) as borrowed:
        offloading = borrowed.model.offloading
        assert {part for part in parts if offloading.is_offloaded(part)} == set(parts)
        with offloading.on_device("vae"):
            assert {name: part.place for name, part in parts.items()} == {
                "unet": "cpu",
                "text_encoders": "cpu",
                "vae": DEVICE,
            }
        offloading.keep_on_device("unet")
        assert [part.place for part in parts.values()] == [DEVICE, "cpu", "cpu"]
        assert borrowed.model.device == torch.device(DEVICE)
    assert all(part.place == "cpu" for part in parts.values())


def test_previews_are_made_in_the_webuis_own_mode(low: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parts, seen = _parts(low.model), []

    def make(_task: Any) -> Any:
        hooks = sum(low.mode.hook in module._forward_pre_hooks.values() for module in low.model.modules())
        seen.append([low.model.lowvram, hooks, *(part.place for part in parts.values())])
        low.mode.hook(low.model.first_stage_model, None)
        raise RuntimeError

    monkeypatch.setitem(vars(low.webui.modules["paths"]), "data_path", str(tmp_path))
    monkeypatch.setattr("lib_pivotal.host.webui.preview._same_random_state", lambda _device: _nothing())
    low.webui.behave("processing", "process_images", make)
    task = types.SimpleNamespace(close=lambda: None)
    low.webui.modules["processing"].StableDiffusionProcessingTxt2Img = lambda **_: task
    low.webui.modules["shared"].opts.data = {}
    with borrow(TrainConfig(), Control()) as borrowed:
        borrowed.model.offloading.keep_on_device("unet")
        with pytest.raises(Exception, match="preview"):
            borrowed.sampler.make(SampleRequest("x", "", 64, 64, 3, 4.0, 7), {})
        assert seen == [[True, 3, "cpu", "cpu", "cpu"]]
        assert low.model.lowvram is False
        assert [part.place for part in parts.values()] == [DEVICE, "cpu", "cpu"]


@pytest.mark.parametrize("flag", ["medvram", "medvram_sdxl", "lowvram"])
def test_the_flags_of_these_modes_are_no_obstacle(monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    webui, _model = toy_webui(monkeypatch)
    vars(webui.modules["shared"].cmd_opts)[flag] = True
    assert not A1111Host("").problems(TrainConfig())


def test_the_check_knows_what_the_gpu_has_and_what_the_model_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    webui, model = toy_webui(monkeypatch)
    assert A1111Host("").device_memory(TrainConfig()) is None, "there is no GPU"
    monkeypatch.setattr("lib_pivotal.host.a1111.device_memory.free_bytes", lambda _device: 1000)
    found = A1111Host("").device_memory(TrainConfig())
    assert found is not None
    sizes = {name: 4 * sum(item.numel() for item in part.parameters()) for name, part in _parts(model).items()}
    assert (found.unet, found.text_encoders, found.vae) == tuple(sizes.values())
    # What the loaded model occupies is used again.
    assert found.available == 1000 + sum(sizes.values())
    assert not found.is_offloaded and not found.can_record
    assert not found.smaller_storage, "webuis before 1.8 have no such setting"
    monkeypatch.setattr("lib_pivotal.host.a1111.device_memory.can_record", lambda _device: True)
    assert A1111Host("").device_memory(TrainConfig()).can_record
    vars(webui.modules["shared"].opts)["fp8_storage"] = "Disable"
    assert "FP8 weight" in A1111Host("").device_memory(TrainConfig()).smaller_storage
    webui.modules["shared"].cmd_opts.medvram_sdxl = True
    assert not A1111Host("").device_memory(TrainConfig()).is_offloaded, "that is for SDXL only"
    webui.modules["shared"].cmd_opts.lowvram = True
    assert A1111Host("").device_memory(TrainConfig()).is_offloaded


def test_the_check_knows_a_checkpoint_that_is_not_loaded_from_its_header(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    webui, _model = toy_webui(monkeypatch)
    path = tmp_path / "other.safetensors"
    shapes = {
        "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (100, 768),
        "first_stage_model.encoder.conv_in.weight": (128, 3, 3, 3),
        "first_stage_model.decoder.conv_out.weight": (3, 128, 3, 3),
    }
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    info = types.SimpleNamespace(**{**vars(INFO), "filename": str(path), "title": "other"})
    webui.behave("sd_models", "get_closet_checkpoint_match", lambda _name: info)
    monkeypatch.setattr("lib_pivotal.host.a1111.device_memory.free_bytes", lambda _device: 1000)
    webui.modules["shared"].cmd_opts.no_half = False
    webui.modules["devices"].dtype_vae = torch.float16
    found = A1111Host("").device_memory(TrainConfig(checkpoint="other"))
    assert found is not None
    assert (found.unet, found.text_encoders, found.vae) == (2 * 11520, 2 * 76800, 2 * 2 * 3456)
    vars(webui.modules["shared"].opts)["fp8_storage"] = "Enable"
    found = A1111Host("").device_memory(TrainConfig(checkpoint="other"))
    assert found is not None
    assert (found.unet, found.must_recompute, found.smaller_storage) == (11520, True, "")


class _nothing:  # noqa: N801
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def test_the_mode_is_suspended_again_if_a_preview_cannot_begin(low: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the webui's hooks in place, a training step would be taken apart."""
    mode = LowMemoryMode(low.model)
    mode.suspend()

    def too_large(_module: Any, _device: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("lib_pivotal.host.a1111.low_memory.move_own_tensors", too_large)
    with pytest.raises(torch.cuda.OutOfMemoryError), mode.resumed():
        pass
    hooks = [hook for module in low.model.modules() for hook in module._forward_pre_hooks.values()]
    assert low.mode.hook not in hooks
    assert not low.model.lowvram
