"""Tensors that are computed again in the backward pass instead of being kept for it.

A frozen layer such as a norm keeps its input anyway. What it returns can be made from that again, so an adapter that
needs it in its backward pass keeps the norm's input, too, which takes no additional memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["Remade", "kept_for", "mark", "remade"]

_ATTRIBUTE = "_pivotal_remade"


class Remade:
    """Makes the output of a frozen layer again, once for all that need it in a backward pass.

    Args:
        make: takes what is kept and returns the output, followed by what the layer's own backward pass needs.
        parent: what ``make`` uses itself.
    """

    def __init__(self, make: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], parent: Remade | None = None) -> None:
        self._make = make
        self._parent = parent
        self._users = 0
        self._made: tuple[torch.Tensor, ...] | None = None

    def reserve(self) -> Remade:
        """Announce one later call of :meth:`again`."""
        if self._users == 0 and self._parent is not None:
            self._parent.reserve()
        self._users += 1
        return self

    def again(self, kept: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What ``make`` returns; computed in the first of the announced calls and dropped after the last one.

        Args:
            kept: what :func:`kept_for` returned, any shape.
        """
        made = self._made
        if made is None:
            with torch.no_grad():
                made = self._make(kept)
        self._users -= 1
        self._made = made if self._users > 0 else None
        return made


def mark(output: torch.Tensor, kept: torch.Tensor, how: Remade) -> None:
    """Note on a tensor that it can be made again.

    Args:
        output: the tensor, any shape.
        kept: from what it is made.
        how: makes it.
    """
    setattr(output, _ATTRIBUTE, (kept.detach(), how))


def remade(tensor: torch.Tensor) -> tuple[torch.Tensor, Remade] | None:
    """What :func:`mark` noted: from what a tensor of any shape is made, and how; None for other tensors."""
    noted: tuple[torch.Tensor, Remade] | None = getattr(tensor, _ATTRIBUTE, None)
    return noted


def kept_for(x: torch.Tensor) -> tuple[torch.Tensor, Remade | None]:
    """What to keep so that a tensor is available in the backward pass.

    Args:
        x: any shape.

    Returns:
        The tensor to keep, and what makes ``x`` of it, see :meth:`Remade.again`; None if it is ``x`` itself.
    """
    noted = remade(x)
    if noted is None:
        # Detached, because torch 2.0 cannot find a saved leaf again with gradient checkpointing.
        return x.detach(), None
    kept, how = noted
    return kept, how.reserve()
