"""Replaces the vectors of some tokens while a text encoder runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["replaced_rows"]


@contextlib.contextmanager
def replaced_rows(
    module: torch.nn.Module, rows: torch.Tensor, columns: torch.Tensor, vectors: torch.Tensor
) -> Iterator[None]:
    """Replace vectors in the output of a token embedding at some positions, within the context.

    It uses a forward hook, so the module and its table are unchanged, and gradients flow back into ``vectors``.

    Args:
        module: the token embedding; its output has shape ``(N, 77, width)``.
        rows: int64, shape ``(K,)``, row of each position; empty replaces nothing.
        columns: int64, shape ``(K,)``, column of each position.
        vectors: shape ``(K, width)``; cast to the output's dtype and device.
    """

    def replace(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output.index_put((rows.to(output.device), columns.to(output.device)), vectors.to(output))

    if not len(rows):
        yield
        return
    handle = module.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()
