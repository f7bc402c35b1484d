"""Loads checkpoints into Forge and brings the selected one back."""

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

    Host: modules/sd_models.py, ``forge_model_reload``, ``forge_loading_parameters``, Forge: loads what the parameters
        say unless it is loaded; they are empty until the page is built.
    Host: modules_forge/main_entry.py, ``refresh_model_loading_parameters``, Forge: sets them to what is selected.
    """
    from modules import sd_models
    from modules_forge import main_entry

    info = sd_models.get_closet_checkpoint_match(name) if name else None
    if name and info is None:
        # It may have gone while the run was queued, and another one must not be trained in its place.
        raise HostError(f"The webui has no checkpoint {name!r}.", hint="Refresh its list and choose another one.")
    data = sd_models.model_data
    try:
        if info is None or not data.forge_loading_parameters:
            main_entry.refresh_model_loading_parameters()
        if info is not None:
            data.forge_loading_parameters = {**data.forge_loading_parameters, "checkpoint_info": info}
        sd_models.forge_model_reload()
    except Exception as error:
        raise HostError(f"The checkpoint could not be loaded: {error}", hint="Choose another one.") from error
    return data.sd_model.sd_checkpoint_info


@contextlib.contextmanager
def same_checkpoint() -> Iterator[None]:
    """Afterwards, load the checkpoint that is selected on the page, if it is another one."""
    try:
        yield
    finally:
        try:
            load_checkpoint("")
        except HostError as error:
            _log.error("The selected checkpoint is not loaded again. %s", error)
