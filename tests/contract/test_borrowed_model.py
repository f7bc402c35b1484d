"""What the borrowed model is trained with: schedule, attention, precision, clip skip, weights in fp8."""

from __future__ import annotations

import contextlib
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.events import Control
from lib_pivotal.core.ports import SampleRequest
from lib_pivotal.host.a1111.host import A1111Host
from lib_pivotal.host.a1111.lease import borrow
from lib_pivotal.host.a1111.model import A1111Model
from lib_pivotal.host.a1111.noise_schedule import noise_schedule_of
from lib_pivotal.host.forge.blocks import one_stream
from lib_pivotal.host.reforge import lease as reforge_lease
from lib_pivotal.host.reforge.host import ReforgeHost
from lib_pivotal.host.reforge.model import ReforgeModel
from tests.contract.toy_webui import toy_webui
from tests.unit.ldm_blocks import TEXT, small_unet


def test_a_schedule_rounded_to_half_precision_is_made_exact_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _host, model = toy_webui(monkeypatch)
    exact = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0).float()
    model.alphas_cumprod = exact.half()
    model.linear_start, model.linear_end = 0.00085, 0.0120
    found = noise_schedule_of(model)
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)
    # Rounded, the signal-to-noise ratio of nearly clean images is wrong by more than one per cent.
    rounded = exact.half().float()
    assert float((rounded[0] / (1 - rounded[0])) / (exact[0] / (1 - exact[0]))) != pytest.approx(1.0, abs=0.01)
    # From 1.8 on the webui keeps its own copy, which counts; and a schedule of another kind stays what it is.
    model.alphas_cumprod_original, model.alphas_cumprod = exact.half(), torch.zeros(1000)
    assert torch.equal(noise_schedule_of(model), exact)
    model.alphas_cumprod_original = other = torch.linspace(0.99, 0.01, 1000)
    assert torch.equal(noise_schedule_of(model), other)


def test_the_memory_saving_attention_is_chosen_while_training_and_the_users_comes_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    webui, _model = toy_webui(monkeypatch)
    chosen: list[str | None] = []
    hijack = webui.modules["sd_hijack"]
    type(hijack.model_hijack).apply_optimizations.behavior = lambda _self, option=None: chosen.append(option)

    def optimizer(name: str, *, is_available: bool) -> Any:
        return types.SimpleNamespace(name=name, title=lambda: f"{name} - title", is_available=lambda: is_available)

    hijack.optimizers = [optimizer("Doggettx", is_available=True), optimizer("sdp", is_available=True)]
    with borrow(TrainConfig(), Control()):
        assert chosen == ["sdp - title"]
        assert "undo_optimizations" not in webui.calls
    assert chosen == ["sdp - title", None]
    assert not caplog.text
    chosen.clear()
    hijack.optimizers = [optimizer("sdp", is_available=False)]
    with borrow(TrainConfig(), Control()):
        assert chosen == []
        assert "undo_optimizations" in webui.calls
        assert "needs more memory" in caplog.text
    assert chosen == [None]


@pytest.mark.skipif(not hasattr(torch, "float8_e4m3fn"), reason="this torch has no fp8")
def test_a_model_in_eight_bits_is_trained_with_recomputing_and_in_a_precision_that_it_can_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _webui, model = toy_webui(monkeypatch)
    layer = model.model.diffusion_model.input_blocks[0][0]
    with borrow(TrainConfig(), Control()) as borrowed:
        assert not borrowed.model.must_recompute
    layer.to(torch.float8_e4m3fn)
    assert not A1111Host("").problems(TrainConfig(precision="auto"))
    (problem,) = A1111Host("").problems(TrainConfig(precision="fp32"))
    assert problem.is_error
    assert "fp8" in problem.message
    with borrow(TrainConfig(), Control()) as borrowed:
        assert borrowed.model.must_recompute
        with borrowed.model.autocast():
            assert layer(torch.ones(1, 4, 4, 4)).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float8_e4m3fn


class _Layer(torch.nn.Module):
    """A text encoder's layer, which notes that it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4).requires_grad_(False)
        self.runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return torch.nn.functional.linear(x, self.linear.weight.to(x.dtype)).tanh()


@pytest.mark.skipif(not hasattr(torch, "float8_e4m3fn"), reason="this torch has no fp8")
@pytest.mark.parametrize("stored", ["float32", "float8_e4m3fn"])
def test_text_encoders_in_eight_bits_keep_no_copies_of_their_weights(
    monkeypatch: pytest.MonkeyPatch, stored: str
) -> None:
    _webui, model = toy_webui(monkeypatch)
    layer = _Layer().to(getattr(torch, stored))
    text_model = model.cond_stage_model.wrapped.transformer.text_model
    text_model.encoder = torch.nn.Module()
    text_model.encoder.layers = torch.nn.ModuleList([layer])
    x = torch.randn(2, 4, requires_grad=True)
    with borrow(TrainConfig(), Control()) as borrowed:
        for enabled in (False, True):
            runs = layer.runs
            with borrowed.model.checkpointing(enabled=enabled):
                layer(x).sum().backward()
            assert layer.runs == runs + (1 if stored == "float32" else 2)
    assert "forward" not in vars(layer)


@pytest.mark.skipif(not hasattr(torch, "float8_e4m3fn"), reason="this torch has no fp8")
def test_hints_about_the_precision_of_the_model_name_what_this_webui_has(monkeypatch: pytest.MonkeyPatch) -> None:
    webui, model = toy_webui(monkeypatch)
    layer = model.model.diffusion_model.input_blocks[0][0]

    def hints(host: A1111Host, dtype: torch.dtype) -> list[str]:
        layer.to(dtype)
        webui.modules["shared"].cmd_opts.no_half = dtype != torch.float16
        return [problem.hint for problem in host.problems(TrainConfig(precision="fp32"))]

    assert hints(A1111Host(""), torch.float8_e4m3fn) == ["Choose auto, or set Settings, FP8 weight to Disable."]
    assert hints(A1111Host(""), torch.float16) == ["Start the webui with --no-half."]
    assert hints(ReforgeHost(""), torch.float8_e4m3fn) == [
        "Choose auto, or start the webui without --unet-in-fp8-e4m3fn and --unet-in-fp8-e5m2."
    ]
    assert hints(ReforgeHost(""), torch.float16) == ["Start the webui with --all-in-fp32."]


@pytest.mark.parametrize(
    ("precision", "expected"), [("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_the_forward_pass_has_the_precision_that_was_chosen(
    monkeypatch: pytest.MonkeyPatch, precision: str, expected: torch.dtype
) -> None:
    _host, model = toy_webui(monkeypatch)
    layer = model.first_stage_model
    with borrow(TrainConfig(precision=precision), Control()) as borrowed:
        with borrowed.model.autocast():
            assert layer(torch.ones(1, 2)).dtype == expected
        assert borrowed.model.needs_loss_scaling is False


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_previews_are_made_with_the_clip_skip_of_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip_skip: int
) -> None:
    webui, _model = toy_webui(monkeypatch)
    options = webui.modules["shared"].opts
    options.data = {"CLIP_stop_at_last_layers": 3}
    seen = []

    def make(_task: Any) -> Any:
        seen.append(options.data["CLIP_stop_at_last_layers"])
        raise RuntimeError

    monkeypatch.setitem(vars(webui.modules["paths"]), "data_path", str(tmp_path))
    webui.behave("processing", "process_images", make)
    webui.modules["processing"].StableDiffusionProcessingTxt2Img = lambda **_: types.SimpleNamespace(close=lambda: None)
    request = SampleRequest("x", "", 64, 64, 3, 4.0, 7, clip_skip)
    with borrow(TrainConfig(clip_skip=clip_skip), Control()) as borrowed, pytest.raises(HostError, match="preview"):
        borrowed.sampler.make(request, {})
    assert seen == [clip_skip]
    assert options.data == {"CLIP_stop_at_last_layers": 3}


def test_blocks_recompute_whether_or_not_they_have_a_forward_function_of_their_own() -> None:
    """A1111's blocks have one besides ``forward``; reForge's transformer blocks do not."""
    unet = small_unet()
    (block, *_) = unet.transformers
    assert not hasattr(block, "_forward")
    calls: list[int] = []
    block.attn1.register_forward_pre_hook(lambda *_: calls.append(1))
    inputs = torch.randn(2, 4, 8, 8, requires_grad=True), torch.tensor([3.0, 400.0]), torch.randn(2, 7, TEXT)
    found = []
    for enabled in (False, True):
        calls.clear()
        with A1111Model.checkpointing(types.SimpleNamespace(_unet=unet, text_encoders=[]), enabled=enabled):  # type: ignore[arg-type]
            output = unet(*inputs)
        found.append(torch.autograd.grad(output.sum(), inputs[0])[0])
        assert len(calls) == (2 if enabled else 1)
    assert torch.equal(*found)
    assert "forward" not in vars(block)


def test_reforge_uses_pytorchs_attention_while_training_and_the_users_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attention = types.ModuleType("ldm_patched.ldm.modules.attention")
    chosen, pytorch = object(), object()
    attention.optimized_attention = attention.optimized_attention_masked = chosen  # type: ignore[attr-defined]
    attention.attention_pytorch = pytorch  # type: ignore[attr-defined]
    for name in ("ldm_patched", "ldm_patched.ldm", "ldm_patched.ldm.modules"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, attention.__name__, attention)
    sys.modules["ldm_patched.ldm.modules"].attention = attention  # type: ignore[attr-defined]
    with contextlib.ExitStack() as stack:
        reforge_lease._choose_attention(stack)
        assert attention.optimized_attention is attention.optimized_attention_masked is pytorch
    assert attention.optimized_attention is attention.optimized_attention_masked is chosen


def test_reforges_vae_is_on_the_device_only_while_it_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """reForge itself keeps it in main memory until it decodes."""
    _webui, model = toy_webui(monkeypatch)
    assert ReforgeModel(model, TrainConfig(), Control()).offloading.is_offloaded("vae")


def test_forge_casts_weights_on_one_stream_while_training(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, backend = types.ModuleType("backend.stream"), types.ModuleType("backend")
    stream.should_use_stream = lambda: True  # type: ignore[attr-defined]
    backend.stream = stream  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "backend", backend)
    monkeypatch.setitem(sys.modules, "backend.stream", stream)
    with one_stream():
        assert not stream.should_use_stream()
    assert stream.should_use_stream()
