"""Several processes, each with its own device, as started by ``torchrun`` or ``accelerate launch``."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import distributed

from lib_pivotal.core.errors import PivotalError
from lib_pivotal.core.process_group import ProcessGroup, SingleProcess
from lib_pivotal.core.train.out_of_memory import is_out_of_memory

__all__ = ["TorchGroup", "is_first_process", "local_device", "open_group"]

Value = TypeVar("Value")

_MAX_WAIT = datetime.timedelta(hours=6)
"""While the first process checks and encodes a large dataset, the others wait; ten minutes are usual."""


class TorchGroup:
    """The processes of ``torch.distributed``; implements ``core.process_group.ProcessGroup``.

    Args:
        device: of this process; exchanged tensors must be on it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()

    def mean_(self, tensor: torch.Tensor) -> None:
        """Replace ``tensor``, of any shape, in place by its mean over all processes.

        Raises:
            PivotalError: another process has ended.
        """
        with _explained():
            distributed.all_reduce(tensor)
        tensor /= self.size

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process.

        Raises:
            PivotalError: another process has ended.
        """
        value = torch.tensor(int(flag), device=self._device)
        with _explained():
            distributed.all_reduce(value, distributed.ReduceOp.MAX)
            return bool(value.item())

    def from_first(self, value: Value) -> Value:
        """The first process's ``value`` in all of them; it must be possible to pickle it.

        Raises:
            PivotalError: another process has ended.
        """
        box = [value]
        with _explained():
            distributed.broadcast_object_list(box, src=0)
        return box[0]


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn the error that the processes get when one of them has ended into one with a remedy."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise PivotalError(
            f"Another process of this run has ended, or cannot be reached: {error}",
            hint="See its messages, and resume the run. What was trained has been kept.",
        ) from error


def is_first_process() -> bool:
    """Whether this is the process that checks, encodes and writes; works before the group is opened."""
    return int(os.environ.get("RANK", "0")) == 0


def local_device(name: str | None) -> str | None:
    """The device of this process: ``cuda:LOCAL_RANK`` under a launcher, unless another device is named."""
    if "LOCAL_RANK" in os.environ and name in (None, "cuda") and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return name


@contextlib.contextmanager
def open_group(device: torch.device) -> Iterator[ProcessGroup]:
    """The group that the launcher describes in the environment; a group of one process without a launcher.

    Args:
        device: of this process; decides between NCCL and Gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SingleProcess()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_MAX_WAIT)
    try:
        yield TorchGroup(device)
    finally:
        distributed.destroy_process_group()
