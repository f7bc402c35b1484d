"""Lets the frozen layers of a network keep less for the backward pass, without changing what they compute."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.nn import functional

from lib_pivotal.core.activations.frozen_products import frozen_convolution, frozen_linear, is_plain_convolution
from lib_pivotal.core.activations.gated_gelu import gated_gelu, is_gated_gelu
from lib_pivotal.core.activations.norms import group_norm, layer_norm, silu
from lib_pivotal.core.families import Kept

__all__ = ["lean", "product_dtype"]

Forward = Callable[[torch.Tensor], torch.Tensor]


def product_dtype(network: torch.nn.Module, autocast: Callable[[], AbstractContextManager[Any]]) -> torch.dtype:
    """In which precision the products of a network are computed.

    Args:
        network: has at least one parameter.
        autocast: makes the context of its forward pass.
    """
    with autocast():
        return functional.linear(*[torch.zeros(1, 1, device=next(network.parameters()).device)] * 2).dtype


@contextlib.contextmanager
def lean(network: torch.nn.Module, autocast: Callable[[], AbstractContextManager[Any]], kept: Kept) -> Iterator[None]:
    """Within the context the layers of a frozen network keep what they are to keep for the backward pass.

    Forward functions of single modules are replaced; those that somebody else has replaced are left alone.

    Args:
        network: a UNet; no parameter needs a gradient.
        autocast: makes the context of its forward pass.
        kept: ``all`` changes nothing. With ``less``, layer norms and GEGLUs keep only their input, and adapters behind
            them nothing more; gradients are the same bit by bit. With ``least``, in addition no inputs of convolutions,
            group norms and their activations are kept, nor the copies of weights that autocast makes; it takes a
            little longer, and gradients are the same up to rounding.
    """
    if kept == "all":
        yield
        return
    dtype = product_dtype(network, autocast)
    replaced: list[tuple[Any, Forward]] = []
    try:
        for module in network.modules():
            forward = _leaner(module, dtype, kept) if "forward" not in vars(module) else None
            if forward is not None:
                module.forward = forward
                replaced.append((module, forward))
        yield
    finally:
        for module, forward in replaced:
            if vars(module).get("forward") is forward:
                del module.forward


def _leaner(module: Any, dtype: torch.dtype, kept: Kept) -> Forward | None:
    """A forward function that keeps less; None if the module's own one is to stay.

    Args:
        module: any module.
        dtype: in which products are computed.
        kept: ``less`` or ``least``, see :func:`lean`.
    """

    def own(*arguments: Any, **options: Any) -> Any:
        # Hosts replace the forward function of the whole class for the time of a call.
        return type(module).forward(module, *arguments, **options)

    kind: Any = None
    if isinstance(module, torch.nn.LayerNorm) and len(module.normalized_shape) == 1:
        kind = layer_norm
    elif is_gated_gelu(module):
        return _while_training(own, lambda x: gated_gelu(module, x))
    elif kept == "least":
        kind = _saving_kind(module, dtype)
    return None if kind is None else _while_training(own, lambda x: kind(module, own, x))


def _saving_kind(module: Any, dtype: torch.dtype) -> Any:
    if is_plain_convolution(module):
        return frozen_convolution
    if isinstance(module, torch.nn.GroupNorm):
        return group_norm
    if isinstance(module, torch.nn.SiLU):
        return silu
    weight: Any = getattr(module, "weight", None)
    is_linear = hasattr(module, "in_features") and getattr(weight, "ndim", 0) == 2
    return frozen_linear if is_linear and weight.dtype != dtype else None


def _while_training(own: Any, leaner: Forward) -> Forward:
    def forward(x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        if arguments or options or not torch.is_grad_enabled():
            output: torch.Tensor = own(x, *arguments, **options)
            return output
        return leaner(x)

    return forward
