"""The webui's Interrupt reaches the run, and the borrowed model notices when it is taken away."""

from __future__ import annotations

import types

import pytest
import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.events import Control
from lib_pivotal.host.a1111.lease import borrow
from lib_pivotal.host.offload import Offloading
from lib_pivotal.host.webui.vae import WebuiVae
from tests.contract.toy_webui import toy_webui


@pytest.mark.parametrize(
    ("version", "flag"), [((1, 7), "interrupted"), ((1, 10, 1), "interrupted"), ((1, 10, 1), "stopping_generation")]
)
def test_interrupt_is_passed_on_by_polling_and_by_nothing_else(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], flag: str
) -> None:
    webui, _model = toy_webui(monkeypatch, version)
    control = Control()
    with borrow(TrainConfig(), control) as borrowed:
        borrowed.model.poll_requests()
        assert not control.stop_requested
        setattr(webui.modules["shared"].state, flag, True)
        borrowed.model.verify()
        assert not control.stop_requested, "verify is a check and changes nothing"
        borrowed.model.poll_requests()
        assert control.stop_requested
        assert not control.discard_requested, "what is trained is kept"


def test_an_exchanged_model_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    webui, model = toy_webui(monkeypatch)
    with borrow(TrainConfig(), Control()) as borrowed:
        borrowed.model.verify()
        webui.modules["sd_models"].model_data.sd_model = None
        with pytest.raises(HostError, match="changed its checkpoint"):
            borrowed.model.verify()
        webui.modules["sd_models"].model_data.sd_model = model
        model.sd_checkpoint_info = types.SimpleNamespace(**{**vars(model.sd_checkpoint_info), "filename": "other"})
        with pytest.raises(HostError, match="changed its checkpoint"):
            borrowed.model.verify()


@pytest.mark.parametrize("part", ["unet", "text_encoders"])
def test_a_moved_part_is_noticed_unless_the_run_itself_offloaded_it(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    _host, model = toy_webui(monkeypatch)
    with borrow(TrainConfig(), Control()) as borrowed:
        network = model.model.diffusion_model if part == "unet" else model.cond_stage_model.wrapped.transformer
        kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.to("meta")
        with pytest.raises(HostError, match="moved off its device"):
            borrowed.model.verify()
        borrowed.model.offloading._offloaded.add(part)
        borrowed.model.verify()
        network.to_empty(device="cpu")
        network.load_state_dict(kept)


@pytest.mark.parametrize("is_on", [True, False])
def test_the_webuis_own_option_takes_the_vae_off_the_device_between_uses(
    monkeypatch: pytest.MonkeyPatch, *, is_on: bool
) -> None:
    webui, _model = toy_webui(monkeypatch)
    vars(webui.modules["shared"].opts)["unload_models_when_training"] = is_on
    with borrow(TrainConfig(), Control()) as borrowed:
        assert borrowed.model.offloading.is_offloaded("vae") is is_on
        assert not borrowed.model.offloading.is_offloaded("text_encoders")


class _Overflowing(torch.nn.Conv2d):
    """An encoder whose output is infinite in every type but fp32."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        output = super().forward(pixels)
        return output if output.dtype == torch.float32 else torch.full_like(output, float("inf"))


def test_latents_of_a_vae_in_bf16_have_the_precision_of_fp32() -> None:
    network = torch.nn.Module()
    network.encoder = torch.nn.Conv2d(3, 8, 8, stride=8)
    network.quant_conv = torch.nn.Conv2d(8, 8, 1)
    network.bfloat16()
    vae = WebuiVae(network, 1.0, Offloading({"vae": [network]}, torch.device("cpu")))
    mean, _ = vae.encode(torch.rand(1, 3, 16, 16))
    assert not torch.equal(mean, mean.bfloat16().float())
    assert network.quant_conv.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("in_fp32", [True, False])
def test_a_vae_that_overflows_in_its_own_type_is_used_in_fp32_and_stays_as_it_was(*, in_fp32: bool) -> None:
    network = torch.nn.Module()
    network.encoder = _Overflowing(3, 8, 8, stride=8)
    network.quant_conv = torch.nn.Conv2d(8, 8, 1)
    network.half()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    vae = WebuiVae(network, 0.5, Offloading({"vae": [network]}, torch.device("cpu")), in_fp32=in_fp32)
    digest = vae.identity()
    mean, std = vae.encode(torch.ones(1, 3, 16, 16))
    assert mean.dtype == std.dtype == torch.float32
    assert mean.shape == std.shape == (1, 4, 2, 2)
    assert torch.isfinite(mean).all()
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float16
        assert torch.equal(tensor, before[name])
    with torch.no_grad():
        network.quant_conv.weight.fill_(float("nan"))
    assert WebuiVae(network, 0.5, Offloading({"vae": [network]}, torch.device("cpu"))).identity() != digest
    with pytest.raises(HostError, match="NaN"):
        vae.encode(torch.ones(1, 3, 16, 16))


def test_a_vae_that_does_not_fit_into_memory_in_fp32_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    network = torch.nn.Module()
    network.encoder, network.quant_conv = _Overflowing(3, 8, 8, stride=8), torch.nn.Conv2d(8, 8, 1)
    network.to(torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def too_large() -> None:
        network.encoder.float()
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(network, "float", too_large)
    vae = WebuiVae(network, 0.5, Offloading({"vae": [network]}, torch.device("cpu")))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        vae.encode(torch.ones(1, 3, 16, 16))
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, before[name])
