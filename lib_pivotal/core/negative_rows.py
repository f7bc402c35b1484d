"""Which rows of a batch are negative, while captions or prompts and their negatives go through the UNet together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

__all__ = ["NegativeRows", "negative_rows", "set_negative_rows", "with_negative_rows", "with_same_rows"]


class NegativeRows(NamedTuple):
    """The negative rows of a batch.

    Attributes:
        start: index of the first one.
        stop: index after the last one.
        are_spared: whether only adapters for negative rows act on them; the other rows then come first.
    """

    start: int
    stop: int
    are_spared: bool = False


# Not an attribute of the adapters: the backward pass recomputes blocks of predictions with different rows, on a GPU in
# another thread.
_rows: ContextVar[NegativeRows | None] = ContextVar("negative_rows", default=None)

negative_rows: Callable[[], NegativeRows | None] = _rows.get
"""The negative rows of what goes through the UNet now; None if none are known."""


def set_negative_rows(rows: NegativeRows | None) -> None:
    """Set the negative rows until they are set again."""
    _rows.set(rows)


@contextlib.contextmanager
def with_negative_rows(rows: NegativeRows | None) -> Iterator[None]:
    """Set the negative rows within the context."""
    token = _rows.set(rows)
    try:
        yield
    finally:
        _rows.reset(token)


def with_same_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that, whenever it is called, finds the rows of this moment; for recomputation in the backward pass."""
    rows = _rows.get()
    if rows is None:
        return function

    def same(*arguments: Any, **options: Any) -> Any:
        with with_negative_rows(rows):
            return function(*arguments, **options)

    return same
