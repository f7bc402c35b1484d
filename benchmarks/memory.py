"""Counts the memory of a training step with full-size networks and random weights: ``python run.py bench memory``.

These are the bytes that a step keeps for its backward pass, found by torch's saved-tensor hooks. The networks are of
torch's fake tensors, which have shapes but no contents, so nothing is computed and any size fits. Compared are, in one
run: the frozen UNet alone, a LoRA with plain autograd (which keeps each layer's input, as kohya's module does), peft's
LoRA where peft is installed, and this engine. The figures per latent cell are those in ``core/families.py``. Peaks on a
GPU are measured by ``python run.py gpu``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, cast
from unittest import mock

import diffusers
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lib_pivotal.core.activations.lean import lean
from lib_pivotal.core.families import FAMILIES, Kept
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.lora.lora import Lora
from lib_pivotal.core.lora.naming import kohya_key, role_of
from lib_pivotal.core.ports import LoraTarget
from lib_pivotal.host.diffusers.model import _recompute
from lib_pivotal.host.diffusers.shapes import unet_params, unet_shape
from lib_pivotal.host.diffusers.standard import standard_config

_RANK = 16
_PEFT_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]
_PLAIN, _PEFT = "LoRA with plain autograd", "peft"
_ROWS: dict[str, Kept] = {
    "frozen UNet alone": "all",
    _PLAIN: "all",
    _PEFT: "all",
    "ours, fast": "all",
    "ours, keeping less": "less",
    "ours, keeping least": "least",
    "ours, saving": "least",
}
"""Way of doing a step → what the layers keep."""


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--side", type=int, default=0, help="px; 0: the family's native resolution")
    parser.add_argument("--precisions", nargs="*", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    options = parser.parse_args()
    _say(f"torch {torch.__version__}, LoRA of rank {_RANK} on attention and feed-forward, batch size 1")
    for family in options.families:
        for precision in options.precisions:
            _print_table(family, precision, options.side or FAMILIES[family].native_resolution)


def _print_table(family: str, precision: str, side: int) -> None:
    """Print what each way of training keeps."""
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    cells = (side // 8) ** 2
    kept: dict[str, int] = {}
    for row in _ROWS:
        if row == _PEFT and importlib.util.find_spec("peft") is None:
            _say("peft is not installed")
            continue
        with FakeTensorMode(allow_non_fake_inputs=True):
            kept[row] = _kept(family, dtype, side, row)
    for row, count in kept.items():
        shares = [f"{count / kept[other]:5.2f} × {other}" for other in (_PLAIN, _PEFT) if other in kept]
        _say(
            f"{family}, {side} px, {precision} | {row:<24} | {count / 2**20:7.0f} MiB | "
            f"{count / cells / 1024:5.0f} KiB per cell | {' | '.join(shares)}"
        )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _unet(family: str, dtype: torch.dtype) -> Any:
    """A full-size frozen UNet."""
    shape = unet_shape(unet_params(standard_config(family)["model"]["params"]))
    # Fake tensors cannot be cast later.
    torch.set_default_dtype(dtype)
    unet = diffusers.UNet2DConditionModel.from_config(shape)
    torch.set_default_dtype(torch.float32)
    return unet.eval().requires_grad_(False)


def _inputs(family: str, side: int) -> tuple[torch.Tensor, torch.Tensor, Any]:
    width = sum(encoder.width for encoder in FAMILIES[family].text_encoders)
    noisy = torch.randn(1, 4, side // 8, side // 8)
    text = torch.randn(1, 77, width).requires_grad_(True)
    added = None
    if FAMILIES[family].has_size_conditioning:
        added = {"text_embeds": torch.randn(1, 1280), "time_ids": torch.zeros(1, 6)}
    return noisy, text, added


def _lora(family: str, unet: Any, *, is_plain: bool) -> AdapterSet:
    targets = []
    for path, module in unet.named_modules():
        role = role_of(path, 1)
        if role in ("attention", "feed_forward") and hasattr(module, "in_features"):
            targets.append(LoraTarget(kohya_key("unet", path, family), "unet", role, module))
    device = torch.device("cpu")
    if not is_plain:
        return AdapterSet.with_ranks("unet", [(target, _RANK) for target in targets], 0.5, 0, device)
    shapes: list[tuple[int, ...]] = [tuple(cast(Any, target.module).weight.shape) for target in targets]
    chosen = [(target, Lora(shape, _RANK, _RANK / 2)) for target, shape in zip(targets, shapes, strict=True)]
    return AdapterSet("unet", chosen, 0, device)


def _kept(family: str, dtype: torch.dtype, side: int, row: str) -> int:
    """Bytes that a step keeps in one of the ways of :data:`_ROWS`."""
    unet = _unet(family, dtype)
    trained: list[torch.Tensor] = []

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast("cpu", dtype=dtype) if dtype != torch.float32 else contextlib.nullcontext()

    with contextlib.ExitStack() as context, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if row == _PEFT:
            from peft import LoraConfig

            # Its weights are fp32 on the CPU already, and fake tensors cannot be moved.
            with mock.patch.object(torch.nn.Module, "to", lambda module, *_, **__: module):
                unet.add_adapter(LoraConfig(r=_RANK, lora_alpha=_RANK // 2, target_modules=_PEFT_LAYERS))
        elif row != "frozen UNet alone":
            lora = _lora(family, unet, is_plain=row == _PLAIN)
            trained.append(lora.flat.values)
            context.enter_context(attach([lora]))
        context.enter_context(lean(unet, autocast, _ROWS[row]))
        if row == "ours, saving":
            unet.enable_gradient_checkpointing(_recompute)
        with _counting([*unet.parameters(), *trained]) as kept, autocast():
            noisy, text, added = _inputs(family, side)
            unet(noisy, torch.zeros(1), text, added_cond_kwargs=added, return_dict=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@contextlib.contextmanager
def _counting(parameters: list[torch.Tensor]) -> Iterator[dict[int, torch.Tensor]]:
    """Collects the tensors that are kept within the context, one per storage, without parameters."""
    own = {parameter.untyped_storage()._cdata for parameter in parameters}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


if __name__ == "__main__":
    main()
