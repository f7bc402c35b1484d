"""LoCon, the LoRA of a convolution: A has the layer's kernel, B is a 1×1 convolution.

Source: Yeh et al. 2023, https://arxiv.org/abs/2309.14859
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from lib_pivotal.core.lora.adapter import Parameters
from lib_pivotal.core.lora.lora import Lora
from lib_pivotal.core.lora.trained_product import trained_conv2d

__all__ = ["Locon"]


class Locon(Lora):
    """Like :class:`Lora`, for a weight ``(out, in, kh, kw)``; implements ``adapter.Adapter``."""

    def forward(self, module: Any, x: torch.Tensor, output: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """``output + scale · B(A(x))``, shape ``(B, out, h, w)``, with the layer's own stride, padding and dilation."""
        down, up = parameters["down"], parameters["up"]
        # Outside of autocast, a half-precision input must be converted for the fp32 weights.
        is_cast = x.dtype != down.dtype and not torch.is_autocast_enabled()
        hidden = trained_conv2d(x.to(down.dtype) if is_cast else x, down, x, module)
        delta = functional.conv2d(hidden, up)
        return torch.add(output, delta.to(output.dtype), alpha=self.scale)

    def network_args(self) -> dict[str, Any]:
        """Kohya's name for the rank of convolutions."""
        return {"conv_dim": self.rank}
