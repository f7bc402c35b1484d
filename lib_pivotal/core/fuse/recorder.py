"""Records what the inputs of layers are like: the Gram matrix of their rows, not the rows themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.fuse.layer_rows import LayerRows
from lib_pivotal.core.lora.targets import reads_text
from lib_pivotal.core.ports import LoraTarget

__all__ = ["InputRecorder"]

_ROWS_PER_ITEM = 256
"""An item's rows beyond this number are left out; neighboring pixels are alike."""


class InputRecorder:
    """Adds up ``x xᵀ`` over the rows of all inputs of some layers while it is attached.

    Args:
        targets: the layers; their modules are not changed.

    Attributes:
        token_weights: how much each token of the current call's text counts, shape ``(N, tokens)``; None counts all
            equally. Only layers that read the text use it.
    """

    def __init__(self, targets: Sequence[LoraTarget]) -> None:
        self._targets = list(targets)
        self._readers = {target.key for target in targets if reads_text(target)}
        self._rows = {target.key: LayerRows(target.module) for target in targets}
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, torch.Tensor] = {}
        self._chosen: dict[int, torch.Tensor] = {}
        self.token_weights: torch.Tensor | None = None

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Record within the context, with hooks that change nothing."""
        handles: list[Any] = []
        try:
            handles += [target.module.register_forward_pre_hook(self._hook(target.key)) for target in self._targets]
            yield
        finally:
            for handle in handles:
                handle.remove()

    def gram(self, target: LoraTarget) -> torch.Tensor:
        """Weighted mean of ``x xᵀ`` of a layer, fp32, shape ``(width, width)``; zeros for a layer that was not used.

        Args:
            target: one of the layers.

        Raises:
            HostError: the inputs were NaN or infinite.
        """
        if target.key not in self._sums:
            width = self._rows[target.key].width
            return torch.zeros(width, width)
        mean = self._sums[target.key] / self._counts[target.key]
        if not bool(mean.isfinite().all()):
            text = f"The model produces NaN or infinite values in its layer {target.key}."
            raise HostError(text, hint="Choose another precision, for example bf16 or fp32.")
        return mean

    def _hook(self, key: str) -> Any:
        rows = self._rows[key]

        def hook(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            self._add(key, rows.of(inputs[0].detach()))

        return hook

    @torch.no_grad()
    def _add(self, key: str, rows: torch.Tensor) -> None:
        """Add the rows of a call, shape ``(B, n, width)``."""
        weights = self._weights_of(rows) if key in self._readers else None
        if key not in self._readers and rows.shape[1] > _ROWS_PER_ITEM:
            rows = rows[:, self._some_of(rows.shape[1], rows.device)]
        # Products in half precision would lose the small directions.
        with torch.autocast(rows.device.type, enabled=False):
            flat = rows.reshape(-1, rows.shape[-1]).float()
            if weights is not None:
                flat = flat * weights.reshape(-1, 1).sqrt()
            if key not in self._sums:
                self._sums[key] = torch.zeros(flat.shape[1], flat.shape[1], device=flat.device)
                self._counts[key] = torch.zeros((), device=flat.device)
            self._sums[key].addmm_(flat.t(), flat)
            self._counts[key] += len(flat) if weights is None else weights.sum()

    def _weights_of(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Weights of rows that are the tokens of the current call, in their order, shape ``(B, n)``."""
        weights = self.token_weights
        if weights is None or rows.shape[:2] not in (weights.shape, weights.t().shape):
            return None
        # Some text encoders have the tokens in front.
        return weights if rows.shape[:2] == weights.shape else weights.t()

    def _some_of(self, count: int, device: torch.device) -> torch.Tensor:
        """The rows to keep of ``count``: a random choice, the same for all calls, so that no column is preferred."""
        if count not in self._chosen:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(count))
            self._chosen[count] = order[:_ROWS_PER_ITEM].sort().values.to(device)
        return self._chosen[count]
