"""Encodes captions once for the forward pass and again for the backward pass.

In between, nothing of the text encoders has to be on the device: neither their activations nor their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from lib_pivotal.core.ports import EncodedText

__all__ = ["encoded_twice"]


def encoded_twice(
    run: Callable[[], Sequence[EncodedText]], on_device: Callable[[], AbstractContextManager[Any]]
) -> list[EncodedText]:
    """Encode without keeping anything for the backward pass, which encodes again; the gradients are the same.

    Args:
        run: encodes; what is trained gets its gradients from the second call.
        on_device: the context in which the text encoders are on the device.
    """
    has_pooled: list[bool] = []

    def tensors() -> list[torch.Tensor]:
        texts = run()
        has_pooled[:] = [text.pooled is not None for text in texts]
        return [tensor for text in texts for tensor in (text.hidden, text.pooled) if tensor is not None]

    # Without an input that requires a gradient, the backward pass would not get here.
    marker = torch.zeros((), requires_grad=True)
    encoded = iter(_Encoding.apply(marker, tensors, on_device))  # type: ignore[no-untyped-call]
    return [EncodedText(next(encoded), next(encoded) if pooled else None) for pooled in has_pooled]


class _Encoding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, _marker: torch.Tensor, run: Any, on_device: Any) -> tuple[torch.Tensor, ...]:
        ctx.run, ctx.on_device = run, on_device
        return tuple(run())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[None, None, None]:
        # Until the inner backward pass has ended: it needs the weights, which are not copied for it.
        with ctx.on_device():
            with torch.enable_grad():
                outputs = ctx.run()
            pairs = [
                (output, gradient)
                for output, gradient in zip(outputs, gradients, strict=True)
                if gradient is not None and output.requires_grad
            ]
            torch.autograd.backward([output for output, _ in pairs], [gradient for _, gradient in pairs])
        return None, None, None
