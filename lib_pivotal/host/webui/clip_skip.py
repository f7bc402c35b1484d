"""Whether training uses the text encoder's layer with which the webui generates."""

from __future__ import annotations

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.families import FAMILIES

__all__ = ["clip_skip_problems"]


def clip_skip_problems(config: TrainConfig, family: str) -> list[Problem]:
    """Warn if images will be made with another clip skip than the one that is trained with.

    Args:
        config: the settings of the run.
        family: name of the model's family, see ``core.families``.

    Host: modules/shared_options.py, ``CLIP_stop_at_last_layers``, A1111 1.6.1-1.10.1, Forge, reForge: 1 unless changed;
        2 in Forge-Neo.
    """
    from modules import shared

    set_to = int(getattr(shared.opts, "CLIP_stop_at_last_layers", 1) or 1)
    if not FAMILIES[family].allows_clip_skip or set_to == config.clip_skip:
        return []
    text = f"Training uses clip skip {config.clip_skip}, but the webui makes images with clip skip {set_to}."
    return [Problem("clip_skip", "warning", text, f"Set it to {set_to}, or change Clip skip in the webui's settings.")]
