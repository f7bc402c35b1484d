"""Recognizes out-of-memory errors, which every library reports differently."""

from __future__ import annotations

import contextlib
import errno
import traceback
from collections.abc import Callable, Iterator

from lib_pivotal.core.errors import OutOfMemory

__all__ = ["explained", "explaining", "forget_variables", "is_out_of_memory"]

_TEXTS = (
    # torch on CUDA, ROCm, MPS, XPU: "CUDA out of memory. Tried to allocate …", "MPS backend out of memory …".
    "out of memory",
    # torch on the CPU, depending on system and version.
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "std::bad_alloc",
    # cuBLAS and cuDNN.
    "_status_alloc_failed",
)
_PAGING_FILE_TOO_SMALL = 1455
"""Windows error code: neither RAM nor the paging file has room."""
_HINT = (
    'Set "GPU memory" to "save", or lower the batch size (and raise "Gradient accumulation") or the resolution. '
    "Close other programs that use the GPU."
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the computer has no memory left."""
    # torch has moved this class between modules.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM or getattr(error, "winerror", None) == _PAGING_FILE_TOO_SMALL
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _TEXTS)


def forget_variables(error: BaseException | None) -> None:
    """Free what an error holds through the functions that it has left, such as the activations of a step.

    The error keeps its message and the lines that it came through.

    Args:
        error: with those that it was raised from; functions that are still running keep their variables.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def explaining(stage: Callable[[], str]) -> Iterator[None]:
    """Turn an error within the context that means out of memory into one with a remedy.

    Args:
        stage: what is being done when it happens: "training", "loading the model".

    Raises:
        OutOfMemory: memory has run out.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(stage(), hint=_HINT) from error
        raise


def explained(error: BaseException, stage: str) -> BaseException:
    """Turn an error that means out of memory into :class:`OutOfMemory`; return any other unchanged.

    Args:
        error: the original error.
        stage: what was being done: "training", "loading the model".
    """
    return OutOfMemory(stage, hint=_HINT) if is_out_of_memory(error) else error
