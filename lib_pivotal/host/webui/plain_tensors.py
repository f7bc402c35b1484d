"""Weights that autograd can use: no gradients of their own, and not made in inference mode."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["use_plain_tensors"]


@torch.no_grad()
def use_plain_tensors(*networks: torch.nn.Module) -> None:
    """Exchange parameters and buffers made in inference mode for ordinary ones on the same memory, and freeze them.

    Nothing is copied. A parameter that several modules share stays shared. Call outside inference mode.

    Args:
        networks: whose modules are changed.

    Host: modules/sd_models.py, ``forge_model_reload``, backend/patcher/lora.py, ``LoraLoader.refresh``, and
        modules/processing.py, ``process_images_inner``, Forge: models are loaded, merged with LoRAs and moved in
        inference mode; autograd cannot save such tensors, and nothing turns them into ordinary ones. Most of them also
        require a gradient.
    """
    known: dict[int, Any] = {}
    for network in networks:
        for module in network.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = known.setdefault(id(parameter), _plain_parameter(parameter))
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_inference():
                    module._buffers[name] = known.setdefault(id(buffer), _on_same_memory(buffer))


def _plain_parameter(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    if parameter.is_inference():
        return torch.nn.Parameter(_on_same_memory(parameter), requires_grad=False)
    return parameter.requires_grad_(False)


def _on_same_memory(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return empty.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
