"""The weight of a layer that is not trained, as the adapters compute with it."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["frozen_weight"]


def frozen_weight(module: Any, device: torch.device | None = None) -> torch.Tensor:
    """The weight of a layer, shape ``(out, in)`` or ``(out, in, kh, kw)``, without a gradient.

    In the type in which it is stored, except for floats of 8 bits, with which torch cannot compute: they become bf16,
    which has all their values.

    Args:
        module: the layer, which may be in main memory.
        device: where the weight is needed; None for where it is.
    """
    weight: torch.Tensor = module.weight.detach()
    weight = weight if device is None else weight.to(device)
    return weight.to(torch.bfloat16) if weight.element_size() == 1 else weight
