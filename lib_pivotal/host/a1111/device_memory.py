"""How much memory the webui's GPU has for a run, and how large the model is that will be trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.ports import ModelPart
from lib_pivotal.core.train.cuda_graph import can_record
from lib_pivotal.core.train.memory import free_bytes
from lib_pivotal.core.train.memory_estimate import DeviceMemory
from lib_pivotal.host.a1111.eight_bits import is_in_eight_bits
from lib_pivotal.host.a1111.family import family_of
from lib_pivotal.host.webui.checkpoint_choice import loaded_model, wanted_file, wanted_model

__all__ = ["find_device_memory"]


def find_device_memory(config: TrainConfig) -> DeviceMemory | None:
    """Sizes for a check, found without loading or moving anything; None without a CUDA GPU or a known model.

    Args:
        config: names the checkpoint.
    """
    from modules import devices

    device = torch.device(devices.device or "cpu")
    free = free_bytes(device)
    if free is None:
        return None
    current = loaded_model()
    if current is not None:
        # It makes room for the parts that a run needs.
        free += _bytes(tensor for tensor in current.parameters() if tensor.device.type == device.type)
    model = wanted_model(config)
    found = _of_model(model, free) if model is not None else _of_file(config, free)
    if found is None or not found.unet:
        return None
    return dataclasses.replace(found, can_record=can_record(device))


def _of_model(model: Any, available: int) -> DeviceMemory:
    family = family_of(model)
    vae = list(model.first_stage_model.parameters())
    in_eight_bits = is_in_eight_bits(model.model)
    return DeviceMemory(
        family,
        unet=_bytes(model.model.parameters()),
        text_encoders=_bytes(model.cond_stage_model.parameters()),
        vae=4 * sum(tensor.numel() for tensor in vae) if FAMILIES[family].needs_fp32_vae else _bytes(vae),
        available=available,
        is_offloaded=_is_low_memory_mode_on(family),
        must_recompute=in_eight_bits,
        smaller_storage=_smaller_storage(in_eight_bits=in_eight_bits),
    )


def _of_file(config: TrainConfig, available: int) -> DeviceMemory | None:
    """Host: modules/devices.py, ``dtype_vae``, A1111 1.6.1-1.10.1."""
    from modules import devices, shared

    file = wanted_file(config)
    if file is None:
        return None
    family = FAMILIES[file.family]
    storage = _storage()
    in_eight_bits = storage == "Enable" or (storage == "Enable for SDXL" and family.has_conditioner)
    width = 4 if shared.cmd_opts.no_half else 2
    in_vae = 4 if family.needs_fp32_vae else torch.finfo(devices.dtype_vae or torch.float32).bits // 8

    def size(part: ModelPart) -> int:
        return file.values[part] * (1 if in_eight_bits else width)

    return DeviceMemory(
        family.name,
        unet=size("unet"),
        text_encoders=size("text_encoders"),
        vae=file.values["vae"] * in_vae,
        available=available,
        is_offloaded=_is_low_memory_mode_on(family.name),
        must_recompute=in_eight_bits,
        smaller_storage=_smaller_storage(in_eight_bits=in_eight_bits),
    )


def _storage() -> str:
    """The setting FP8 weight; empty in webuis that lack it.

    Host: modules/shared_options.py, ``fp8_storage``, A1111 1.8-1.10.1: Enable, Enable for SDXL or Disable.
    """
    from modules import shared

    return getattr(shared.opts, "fp8_storage", None) or ""


def _smaller_storage(*, in_eight_bits: bool) -> str:
    """How to store the model in fewer bits, for a hint; empty if that is not possible."""
    return "set Settings, FP8 weight to Enable" if _storage() and not in_eight_bits else ""


def _is_low_memory_mode_on(family: str) -> bool:
    """Host: modules/lowvram.py, ``is_needed``, A1111 1.6.1-1.10.1: ``--medvram-sdxl`` is for SDXL only."""
    from modules import shared

    options = shared.cmd_opts
    return bool(options.lowvram or options.medvram or (options.medvram_sdxl and FAMILIES[family].has_conditioner))


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
