"""The UNet's and text encoders' blocks in a form that autograd can use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.negative_rows import with_same_rows

__all__ = ["one_stream", "pytorch_attention", "recomputing", "text_blocks", "trainable", "unet_blocks"]


def unet_blocks(network: Any) -> list[Any]:
    """The UNet's transformer and ResNet blocks, whose method ``_forward`` does the work.

    Host: backend/nn/unet.py, ``BasicTransformerBlock._forward``, ``ResBlock._forward``, Forge: called by ``forward``
        through the instance.
    """
    return [module for module in network.modules() if type(module).__name__ in ("BasicTransformerBlock", "ResBlock")]


def text_blocks(text_model: Any) -> list[Any]:
    """The layers of a text encoder of transformers."""
    return list(text_model.encoder.layers)


@contextlib.contextmanager
def trainable(network: Any) -> Iterator[None]:
    """Within the context transformer blocks change no tensor in place while gradients are on; the result is the same.

    Raises:
        HostError: the blocks have parts that those of Stable Diffusion do not have.

    Host: backend/nn/unet.py, ``BasicTransformerBlock._forward``, Forge: adds to a tensor that a norm has saved for the
        backward pass. Without gradients, as in previews, the original runs with all of the webui's patches.
    """
    blocks = [block for block in unet_blocks(network) if type(block).__name__ == "BasicTransformerBlock"]
    for block in blocks:
        if block.ff_in or not block.is_res or block.attn2 is None:
            raise HostError("The UNet has an unknown kind of transformer block.", hint="Select another checkpoint.")
    with _replaced(blocks, "_forward", _out_of_place):
        yield


@contextlib.contextmanager
def recomputing(blocks: Sequence[Any], method: str) -> Iterator[None]:
    """Within the context blocks recompute their activations in the backward pass.

    Args:
        blocks: modules.
        method: the method that does their work.
    """
    with _replaced(blocks, method, lambda block: _recomputed(getattr(block, method))):
        yield


@contextlib.contextmanager
def _replaced(blocks: Sequence[Any], method: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Within the context each block has another method, made from the block, in its instance dictionary."""
    before = [(block, block.__dict__.get(method)) for block in blocks]
    for block, replacement in [(block, make(block)) for block in blocks]:
        setattr(block, method, replacement)
    try:
        yield
    finally:
        for block, kept in before:
            if kept is None:
                block.__dict__.pop(method, None)
            else:
                setattr(block, method, kept)


def _out_of_place(block: Any) -> Any:
    original = block._forward

    def forward(x: torch.Tensor, context: Any = None, transformer_options: Any = None) -> Any:
        if not torch.is_grad_enabled():
            return original(x, context, {} if transformer_options is None else transformer_options)
        x = x + block.attn1(block.norm1(x), context=context if block.disable_self_attn else None)
        x = x + block.attn2(block.norm2(x), context=context)
        return block.ff(block.norm3(x)) + x

    return forward


def _recomputed(original: Any) -> Any:
    def forward(*arguments: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return original(*arguments, **options)
        run = with_same_rows(original)
        return checkpoint(run, *arguments, use_reentrant=False, preserve_rng_state=False, **options)

    return forward


@contextlib.contextmanager
def pytorch_attention() -> Iterator[None]:
    """Within the context the UNet uses PyTorch's attention, which keeps the least for the backward pass.

    Host: backend/nn/unet.py, ``attention_function``, Forge: bound when the module is imported, and looked up there at
        each call. backend/attention.py, ``attention_pytorch``, Forge.
    """
    from backend import attention
    from backend.nn import unet

    kept = unet.attention_function
    unet.attention_function = attention.attention_pytorch
    try:
        yield
    finally:
        unet.attention_function = kept


@contextlib.contextmanager
def one_stream() -> Iterator[None]:
    """Within the context weights are cast by the stream of the GPU that uses them.

    Host: backend/stream.py, ``should_use_stream``, Forge: with ``--cuda-stream`` or the swap method Async, another
        stream casts them, and torch does not know that autograd still reads a copy when its memory is used again. It is
        looked up at each call; each load of the page may set the method again.
    """
    from backend import stream

    kept = stream.should_use_stream
    stream.should_use_stream = lambda: False
    try:
        yield
    finally:
        stream.should_use_stream = kept
