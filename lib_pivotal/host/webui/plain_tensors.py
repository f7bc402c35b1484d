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
                if buffer is not None and not _is_plain(buffer):
                    module._buffers[name] = known.setdefault(id(buffer), _on_same_memory(buffer))


def _plain_parameter(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    if _is_plain(parameter):
        return parameter.requires_grad_(False)
    return torch.nn.Parameter(_on_same_memory(parameter), requires_grad=False)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether autograd can save a tensor.

    One that was made in inference mode and moved to another device outside of it does not call itself one of inference
    mode any more, but still lacks the count of its changes, without which autograd raises an error.
    """
    try:
        _ = tensor._version
    except RuntimeError:
        return False
    return not tensor.is_inference()


def _on_same_memory(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return empty.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
