"""Checks whether a process is still running, without affecting it, on all operating systems."""

from __future__ import annotations

import ctypes
import os
from typing import Any

__all__ = ["is_running"]

_SYNCHRONIZE = 0x00100000
_ACCESS_DENIED = 5
_WAIT_TIMEOUT = 0x102


def is_running(pid: int) -> bool:
    """Whether a process with this id is running on this computer; True if that cannot be determined.

    Args:
        pid: process id, as from ``os.getpid``.
    """
    if pid <= 0:
        return False
    if os.name == "nt":
        # On Windows, os.kill(pid, 0) would end the process.
        kernel = vars(ctypes)["WinDLL"]("kernel32", use_last_error=True)
        return _runs_on_windows(pid, kernel, vars(ctypes)["get_last_error"])
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        # It belongs to another user.
        return True
    return True


def _runs_on_windows(pid: int, kernel: Any, last_error: Any) -> bool:
    # Ids have 32 bits.
    if pid >= 2**32:
        return False
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(_SYNCHRONIZE, False, pid)
    if not handle:
        return bool(last_error() == _ACCESS_DENIED)
    try:
        # A process that has ended is signaled; a running one lets the wait time out.
        return bool(kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == _WAIT_TIMEOUT)
    finally:
        kernel.CloseHandle(ctypes.c_void_p(handle))
