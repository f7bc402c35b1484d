"""Settings of earlier releases, whose names have changed since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["with_new_names"]


def with_new_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which settings have the names and values of this release; values of the wrong type stay as they are."""
    settings = dict(settings)
    if isinstance(settings.get("norm_band"), bool):
        settings.setdefault("embedding_norms", "band" if settings["norm_band"] else "free")
        del settings["norm_band"]
    return settings
