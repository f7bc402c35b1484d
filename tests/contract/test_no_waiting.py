"""What the webuis compute on the CPU in every step is computed once, and stays the same."""

from __future__ import annotations

import math
import sys
import types
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from transformers.models.clip import modeling_clip

from lib_pivotal.core.ports import ImageSize
from lib_pivotal.host.a1111.size_conditioning import embedded_size
from lib_pivotal.host.a1111.text_waits import masks_made_once, pooling_on_device
from lib_pivotal.host.reforge import lease as reforge_lease
from lib_pivotal.host.webui.embedded_sizes import EmbeddedSizes
from lib_pivotal.host.webui.timestep_table import TimestepTable


class _Webui:
    """A module with a UNet and its function, as the webuis have them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.module: Any = types.ModuleType("fake_openaimodel")
        monkeypatch.setitem(sys.modules, "fake_openaimodel", self.module)
        self.module.timestep_embedding = self.embedding

        class UNet(torch.nn.Module):
            __module__ = "fake_openaimodel"

            def forward(unet, timesteps: torch.Tensor) -> torch.Tensor:  # noqa: N805
                embedded: torch.Tensor = self.module.timestep_embedding(timesteps, 8, repeat_only=False)
                return embedded

        # Token merging and other extensions make subclasses.
        self.unet = type("Other", (UNet,), {"__module__": "elsewhere"})()

    def embedding(self, timesteps: torch.Tensor, width: int, repeat_only: bool = False) -> torch.Tensor:
        self.calls += 1
        frequencies = torch.exp(-math.log(10000) * torch.arange(width // 2, dtype=torch.float32) / (width // 2))
        angles = timesteps[:, None].float() * frequencies
        # As A1111's, which returns the type of the model except for whole numbers.
        wide = timesteps.dtype == torch.int64
        return torch.cat([angles.cos(), angles.sin()], dim=-1).to(torch.float32 if wide else torch.bfloat16)


def test_timesteps_are_looked_up_while_training_and_computed_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = _Webui(monkeypatch)
    table = TimestepTable(webui.unet, 1000)
    batches = [torch.tensor([0, 999]), torch.tensor([17, 500, 3]), torch.tensor([1.0, 998.0])]
    expected = [webui.unet(batch) for batch in batches]
    webui.calls = 0
    with torch.inference_mode(), table.in_use():
        webui.unet(batches[0])
    for batch, right in zip(batches, expected, strict=True):
        with table.in_use():
            found = webui.unet(batch)
        assert found.dtype == right.dtype
        torch.testing.assert_close(found, right, rtol=0, atol=1e-6)
        assert not found.is_inference()
    assert webui.calls == 2, "once for each type of timesteps"
    with pytest.raises(ValueError, match="stop"), table.in_use():
        raise ValueError("stop")
    # Previews have timesteps between those of the training.
    between = torch.tensor([0.5])
    torch.testing.assert_close(webui.unet(between), webui.embedding(between, 8))


def test_a_unet_without_such_a_function_is_left_alone() -> None:
    with TimestepTable(torch.nn.Linear(1, 1), 1000).in_use():
        pass


class _SizeEmbedder:
    def __init__(self, key: str, calls: list[str]) -> None:
        self.input_key, self.calls = key, calls

    def __call__(self, pairs: torch.Tensor) -> torch.Tensor:
        self.calls.append(self.input_key)
        return torch.cat([pairs, pairs.half() / 3], dim=1).half()


def test_each_size_is_embedded_once_and_sizes_stay_with_their_images() -> None:
    calls: list[str] = []
    keys = ["txt", "original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple"]
    conditioner = types.SimpleNamespace(embedders=[_SizeEmbedder(key, calls) for key in keys])
    sizes = EmbeddedSizes(lambda size, device: embedded_size(conditioner, size, device))
    one, other = ImageSize((64, 48), (0, 8), (32, 32)), ImageSize((80, 48), (4, 0), (32, 40))
    cpu = torch.device("cpu")
    found = sizes.of([one, other, one], cpu)
    assert calls == 2 * keys[1:]
    assert found.dtype == torch.float32 and found.shape == (3, 12)
    assert torch.equal(found[0], found[2])
    for row, size in zip(found, (one, other), strict=False):
        assert row[[0, 1, 4, 5, 8, 9]].tolist() == [*size.original, *size.crop, *size.target]
    assert torch.equal(sizes.of([other], cpu)[0], found[1])
    assert len(calls) == 6


def test_clips_mask_is_made_once_while_training(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def make(shape: Any, dtype: torch.dtype, device: torch.device, past_key_values_length: int = 0) -> torch.Tensor:
        made.append((tuple(shape), dtype))
        return torch.full((shape[1], shape[1]), -1.0, dtype=dtype).triu(1).expand(shape[0], 1, -1, -1)

    monkeypatch.setattr(modeling_clip, "_make_causal_mask", make, raising=False)
    cpu = torch.device("cpu")
    with masks_made_once():
        with torch.inference_mode():
            modeling_clip._make_causal_mask(torch.Size((2, 5)), torch.float32, device=cpu)
        first = modeling_clip._make_causal_mask(torch.Size((2, 5)), torch.float32, cpu)
        again = modeling_clip._make_causal_mask(torch.Size((2, 5)), torch.float32, cpu)
        other = modeling_clip._make_causal_mask(torch.Size((2, 5)), torch.float16, cpu)
    assert first is again and not first.is_inference()
    assert other.dtype == torch.float16
    assert torch.equal(first, make((2, 5), torch.float32, cpu))
    assert made == [((2, 5), torch.float32), ((2, 5), torch.float16), ((2, 5), torch.float32)], "the last by the test"
    assert modeling_clip._make_causal_mask is make


def test_newer_versions_of_transformers_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(modeling_clip, "_make_causal_mask", raising=False)
    with masks_made_once():
        assert not hasattr(modeling_clip, "_make_causal_mask")


class _Pooling(torch.nn.Module):
    """As SDXL's second encoder pools: row numbers are on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.model = types.SimpleNamespace(text_projection=torch.randn(4, 3, requires_grad=True))

    def pool(self, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return x[torch.arange(x.shape[0]), text.argmax(dim=-1)] @ self.model.text_projection


def test_pooled_text_stays_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    encoder, hidden = _Pooling(), torch.randn(2, 5, 4)
    ids = torch.tensor([[0, 3, 9, 9, 1], [0, 1, 2, 3, 9]])
    right = encoder.pool(hidden, ids)
    devices: list[Any] = []
    arange = torch.arange

    def noting(*arguments: Any, **options: Any) -> torch.Tensor:
        devices.append(options.get("device"))
        return arange(*arguments, **options)

    with pooling_on_device(encoder):
        monkeypatch.setattr(torch, "arange", noting)
        assert torch.equal(encoder.pool(hidden, ids), right)
    assert devices == [hidden.device]
    assert "pool" not in vars(encoder)
    encoder.pool = extension = lambda x, text: x  # type: ignore[method-assign]
    with pooling_on_device(encoder):
        pass
    assert vars(encoder)["pool"] is extension
    with pooling_on_device(torch.nn.Linear(1, 1)):
        pass


@pytest.fixture
def reforge_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    modules, memory = types.ModuleType("ldm_patched.modules"), types.ModuleType("ldm_patched.modules.model_management")
    modules.model_management = memory  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ldm_patched", types.ModuleType("ldm_patched"))
    monkeypatch.setitem(sys.modules, "ldm_patched.modules", modules)
    monkeypatch.setitem(sys.modules, "ldm_patched.modules.model_management", memory)
    return memory


def test_reforge_casts_weights_on_one_stream_while_training(reforge_memory: Any) -> None:
    reforge_memory.NUM_STREAMS = 2
    with ExitStack() as stack:
        reforge_lease._use_one_stream(stack)
        assert reforge_memory.NUM_STREAMS == 1
    assert reforge_memory.NUM_STREAMS == 2
