"""Which of PyTorch's attention kernels are used in training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["differentiable_attention"]

_AMPERE = (8, 0)


@contextlib.contextmanager
def differentiable_attention(device: torch.device) -> Iterator[None]:
    """Within the context attention uses no kernel that has no gradients on this GPU.

    Before Ampere (RTX 20, GTX 16, T4), the flash attention of torch 2.0 and 2.1 has none for heads of more than 64
    values, though torch chooses it, and SD1 has heads of 80. Later versions have no flash attention for these GPUs.

    Args:
        device: that trains.

    Source: https://github.com/huggingface/diffusers/issues/5994
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) >= _AMPERE:
        yield
        return
    before = torch.backends.cuda.flash_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_flash_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_flash_sdp(before)
