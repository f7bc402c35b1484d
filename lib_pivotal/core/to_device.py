"""Copies tensors to a GPU without making the CPU wait for it."""

from __future__ import annotations

import torch

__all__ = ["to_device"]


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device; a copy to a GPU does not make the CPU wait for the GPU's earlier work.

    Args:
        tensor: any shape and dtype; must not be changed afterwards.
        device: where it is needed.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        # Only pinned memory can be copied in the background.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
