"""The presets as text, for the command ``presets``."""

from __future__ import annotations

import textwrap

from lib_pivotal.core.config.presets import presets

__all__ = ["preset_list"]

_WIDTH = 100


def preset_list() -> str:
    """Name, title and purpose of every preset."""
    return "\n".join(
        f"{preset.name}: {preset.title}\n{textwrap.indent(textwrap.fill(preset.why, _WIDTH), '    ')}\n"
        for preset in presets()
    )
