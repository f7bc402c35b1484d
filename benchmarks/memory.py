"""Counts the memory of a training step with full-size networks and random weights: ``python run.py bench memory``.

These are the bytes that a step keeps for its backward pass, per latent cell and image, found by torch's saved-tensor
hooks; they are the figures in ``core/families.py``. Peaks on a GPU are measured by ``python run.py gpu``.
"""

from __future__ import annotations

import argparse
import gc
import sys
from typing import Any

import diffusers
import torch

from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.lora.naming import kohya_key, role_of
from lib_pivotal.core.ports import LoraTarget
from lib_pivotal.host.diffusers.model import _recompute
from lib_pivotal.host.diffusers.shapes import unet_params, unet_shape
from lib_pivotal.host.diffusers.standard import standard_config

_RANK = 16


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument(
        "--side", type=int, default=0, help="px; 0: the family's native resolution, half of it on a CPU"
    )
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    name = torch.cuda.get_device_name() if on_gpu else "cpu"
    _say(f"device {name}, torch {torch.__version__}, bf16 autocast, LoRA rank {_RANK} on attention and feed-forward")
    for family in options.families:
        native = FAMILIES[family].native_resolution
        width = sum(encoder.width for encoder in FAMILIES[family].text_encoders)
        side = options.side or (native if on_gpu else native // 2)
        unet = _unet(family, device)
        for checkpointing in (False, True):
            _measure(family, unet, side, width, device, checkpointing=checkpointing)
        del unet
        gc.collect()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _unet(family: str, device: torch.device) -> Any:
    """A full-size UNet with random weights, bf16, frozen."""
    shape = unet_shape(unet_params(standard_config(family)["model"]["params"]))
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(shape)
    unet = unet.to(torch.bfloat16).to_empty(device=device)
    for parameter in unet.parameters():
        parameter.data.normal_(std=0.02)
    return unet.eval().requires_grad_(False)


def _inputs(family: str, side: int, width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, Any]:
    noisy = torch.randn(1, 4, side // 8, side // 8, device=device)
    text = torch.randn(1, 77, width, device=device).requires_grad_(True)
    added = None
    if FAMILIES[family].has_size_conditioning:
        added = {
            "text_embeds": torch.randn(1, 1280, device=device),
            "time_ids": torch.tensor([[side, side, 0, 0, side, side]], dtype=torch.float32, device=device),
        }
    return noisy, text, added


def _lora(family: str, unet: Any, device: torch.device) -> AdapterSet:
    chosen = []
    for path, module in unet.named_modules():
        role = role_of(path, 1)
        if role in ("attention", "feed_forward") and hasattr(module, "in_features"):
            chosen.append((LoraTarget(kohya_key("unet", path, family), "unet", role, module), _RANK))
    return AdapterSet.with_ranks("unet", chosen, 0.5, 0, device)


def _measure(family: str, unet: Any, side: int, width: int, device: torch.device, *, checkpointing: bool) -> None:
    """Print what a step with the engine's LoRA keeps for its backward pass."""
    inputs = _inputs(family, side, width, device)
    lora = _lora(family, unet, device)
    if checkpointing:
        unet.enable_gradient_checkpointing(_recompute)
    try:
        with attach([lora]):
            kept = _kept(unet, inputs, lora)
    finally:
        unet.disable_gradient_checkpointing()
    cells = (side // 8) ** 2
    state = "on " if checkpointing else "off"
    _say(
        f"{family}, {side} px, checkpointing {state}: {kept / 2**20:8.0f} MiB kept, "
        f"{kept / cells / 1024:6.0f} KiB per latent cell"
    )
    gc.collect()


def _loss(unet: Any, inputs: tuple[torch.Tensor, torch.Tensor, Any]) -> torch.Tensor:
    noisy, text, added = inputs
    with torch.autocast(noisy.device.type, dtype=torch.bfloat16):
        output = unet(noisy, torch.tensor([400], device=noisy.device), text, added_cond_kwargs=added).sample
    loss: torch.Tensor = output.float().square().mean()
    return loss


def _kept(unet: Any, inputs: tuple[torch.Tensor, torch.Tensor, Any], lora: AdapterSet) -> int:
    """Bytes of all tensors kept for the backward pass, each counted once, without weights."""
    own = {parameter.untyped_storage().data_ptr() for parameter in unet.parameters()}
    own.add(lora.flat.values.untyped_storage().data_ptr())
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = _loss(unet, inputs)
    loss.backward()
    return sum(kept.values())


if __name__ == "__main__":
    main()
