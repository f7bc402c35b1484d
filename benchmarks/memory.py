"""Memory of a training step of full-size networks with random weights: ``python run.py bench memory``.

Without a GPU it counts the bytes that one step keeps for its backward pass, by torch's own hooks, per latent cell and
image: these figures are in ``core/families.py``. With a GPU it also measures the peak of whole steps of the
engine, weights included, and, where peft is installed, of a plain loop over diffusers and peft in the same run.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from typing import Any

import diffusers
import torch

from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.lora.naming import kohya_key, role_of
from lib_pivotal.core.optim.build import Optimizer, ParameterGroup
from lib_pivotal.core.ports import LoraTarget
from lib_pivotal.host.diffusers.model import _recompute
from lib_pivotal.host.diffusers.shapes import unet_params, unet_shape
from lib_pivotal.host.diffusers.standard import standard_config

_RANK = 16


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--side", type=int, default=0, help="px; 0: the usual one, half of it on a CPU")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    name = torch.cuda.get_device_name() if on_gpu else "cpu"
    _say(f"device {name}, torch {torch.__version__}, bf16 autocast, LoRA rank {_RANK} on attention and feed-forward")
    for family in options.families:
        usual = FAMILIES[family].native_resolution
        width = sum(encoder.width for encoder in FAMILIES[family].text_encoders)
        side = options.side or (usual if on_gpu else usual // 2)
        unet = _unet(family, device)
        for checkpointing in (False, True):
            _one(family, unet, side, width, device, checkpointing=checkpointing)
        if on_gpu:
            _peft(family, unet, side, width, device)
        del unet
        gc.collect()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _unet(family: str, device: torch.device) -> Any:
    """A full-size UNet of random weights, bf16, frozen."""
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


def _one(family: str, unet: Any, side: int, width: int, device: torch.device, *, checkpointing: bool) -> None:
    """What a step with the engine's LoRA keeps for its backward pass, and on a GPU the peak and time of whole steps."""
    inputs = _inputs(family, side, width, device)
    lora = _lora(family, unet, device)
    if checkpointing:
        unet.enable_gradient_checkpointing(_recompute)
    try:
        with attach([lora]):
            kept = _kept(unet, inputs, lora)
            measured = _whole_steps(unet, inputs, lora) if device.type == "cuda" else ""
    finally:
        unet.disable_gradient_checkpointing()
    cells = (side // 8) ** 2
    state = "on " if checkpointing else "off"
    _say(
        f"{family}, {side} px, checkpointing {state}: {kept / 2**20:8.0f} MiB kept, "
        f"{kept / cells / 1024:6.0f} KiB a latent cell{measured}"
    )
    gc.collect()


def _loss(unet: Any, inputs: tuple[torch.Tensor, torch.Tensor, Any]) -> torch.Tensor:
    noisy, text, added = inputs
    with torch.autocast(noisy.device.type, dtype=torch.bfloat16):
        output = unet(noisy, torch.tensor([400], device=noisy.device), text, added_cond_kwargs=added).sample
    loss: torch.Tensor = output.float().square().mean()
    return loss


def _kept(unet: Any, inputs: tuple[torch.Tensor, torch.Tensor, Any], lora: AdapterSet) -> int:
    """Bytes of the tensors that wait for the backward pass, each once, weights left out."""
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


def _whole_steps(unet: Any, inputs: tuple[torch.Tensor, torch.Tensor, Any], lora: AdapterSet) -> str:
    """Peak and time of steps with the engine's optimizer, after a first one that warms up."""
    group = ParameterGroup("unet", lora.flat.values, 1e-4, 1e-3)
    optimizer = Optimizer([group], clip_norm=1.0, uses_fp16=False, device=inputs[0].device)
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        torch.cuda.synchronize()
        started = time.perf_counter()
        optimizer.scaled(_loss(unet, inputs)).backward()
        optimizer.step()
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    return (
        f", {seconds:6.2f} s a step, peak {torch.cuda.max_memory_allocated() / 2**20:8.0f} MiB with the UNet's weights"
    )


def _peft(family: str, unet: Any, side: int, width: int, device: torch.device) -> None:
    """The same step as a plain loop over diffusers and peft makes it."""
    try:
        from peft import LoraConfig
    except ImportError:
        _say(f"{family}: peft is not installed, so there is nothing to compare with (pip install peft)")
        return
    layers = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]
    unet.add_adapter(LoraConfig(r=_RANK, lora_alpha=_RANK // 2, target_modules=layers))
    inputs = _inputs(family, side, width, device)
    optimizer = torch.optim.AdamW([parameter for parameter in unet.parameters() if parameter.requires_grad])
    for checkpointing in (False, True):
        (unet.enable_gradient_checkpointing if checkpointing else unet.disable_gradient_checkpointing)()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(3):
            torch.cuda.synchronize()
            started = time.perf_counter()
            _loss(unet, inputs).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            torch.cuda.synchronize()
        seconds, peak = time.perf_counter() - started, torch.cuda.max_memory_allocated() / 2**20
        state = "on " if checkpointing else "off"
        _say(f"{family}, peft loop, checkpointing {state}: {seconds:6.2f} s a step, peak {peak:8.0f} MiB")
    unet.delete_adapters("default")


if __name__ == "__main__":
    main()
