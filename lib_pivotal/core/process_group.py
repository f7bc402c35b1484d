"""The processes that train one model together: the interface, and the group of a single process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import torch

__all__ = ["ProcessGroup", "SingleProcess"]

Value = TypeVar("Value")


class ProcessGroup(Protocol):
    """The processes that train one model together, each on its own device."""

    rank: int
    size: int

    def mean_(self, tensor: torch.Tensor) -> None:
        """Replace ``tensor``, of any shape, in place by its mean over all processes."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process."""
        ...

    def from_first(self, value: Value) -> Value:
        """Return the first process's ``value`` in all processes; it must be picklable."""
        ...


class SingleProcess:
    """The group of a run in a single process."""

    rank = 0
    size = 1

    def mean_(self, tensor: torch.Tensor) -> None:
        """Do nothing, whatever the shape: the mean over one process is the tensor itself."""

    def any(self, flag: bool) -> bool:
        """The flag itself."""
        return flag

    def from_first(self, value: Value) -> Value:
        """The value itself."""
        return value
