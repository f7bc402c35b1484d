"""Loads checkpoints into the webui's model and brings the earlier one back."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from lib_pivotal.core.errors import HostError

__all__ = ["load_checkpoint", "same_checkpoint"]

_log = logging.getLogger("pivotal.host.checkpoints")


def load_checkpoint(name: str) -> Any:
    """Load a checkpoint unless it is loaded, and leave the user's selection as it is; returns the webui's record.

    Args:
        name: its title; empty for the selected one.

    Raises:
        HostError: there is no such checkpoint, or it cannot be loaded.
    """
    from modules import sd_models, shared

    info = sd_models.get_closet_checkpoint_match(name) if name else None
    if name and info is None:
        raise HostError(f"The webui has no checkpoint {name!r}.", hint="Refresh its list and choose another one.")
    try:
        with sd_models.SkipWritingToConfig():
            sd_models.reload_model_weights(info=info)
    except Exception as error:
        raise HostError(f"The checkpoint {name} could not be loaded: {error}", hint="Choose another.") from error
    return shared.sd_model.sd_checkpoint_info


@contextlib.contextmanager
def same_checkpoint() -> Iterator[None]:
    """Afterwards, load the checkpoint that is loaded now.

    Host: modules/sd_models.py, ``reload_model_weights``, A1111 1.6.1-1.10.1: does nothing if it is loaded.
    """
    from modules import sd_models, shared

    # The first access loads the selected one if none is loaded yet.
    before = shared.sd_model.sd_checkpoint_info
    try:
        yield
    finally:
        try:
            with sd_models.SkipWritingToConfig():
                sd_models.reload_model_weights(info=before)
        except Exception:
            _log.exception("Could not load %s again after a comparison.", before.title)
