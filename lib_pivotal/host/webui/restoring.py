"""What every lease of a model needs in order to leave the webui as it was."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

__all__ = ["stop_live_previews", "undo_later"]

_log = logging.getLogger("pivotal.host.lease")


def undo_later(stack: ExitStack, what: str, step: Callable[..., Any], *arguments: Any) -> None:
    """Schedule ``step`` for the end; if it fails, the failure is logged and the other steps still run.

    Args:
        stack: runs it.
        what: for the log, what it restores.
        step: what restores it.
        arguments: of ``step``.
    """

    def attempt() -> None:
        try:
            step(*arguments)
        except Exception:
            _log.exception("Could not restore %s after training.", what)

    stack.callback(attempt)


def stop_live_previews(stack: ExitStack) -> None:
    """Keep the page's progress poll from decoding images with the borrowed VAE in another thread.

    Host: modules/shared_state.py, ``set_current_image``, A1111 1.6.1-1.10.1, Forge, reForge: does so unless
    ``shared.parallel_processing_allowed`` is False.
    """
    from modules import shared

    allowed = shared.parallel_processing_allowed
    undo_later(stack, "parallel previews", setattr, shared, "parallel_processing_allowed", allowed)
    shared.parallel_processing_allowed = False
    shared.state.current_latent = None
