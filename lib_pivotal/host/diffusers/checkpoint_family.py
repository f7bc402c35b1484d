"""The family of a checkpoint, from headers and configurations alone."""

from __future__ import annotations

import json
from pathlib import Path

from lib_pivotal.core.checkpoint_file import read_checkpoint_file
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.families import detect_family

__all__ = ["family_of_checkpoint"]


def family_of_checkpoint(path: Path) -> str:
    """Family of a ``.safetensors`` file or diffusers folder, see ``core.families``; empty if it does not show it."""
    try:
        if path.is_file():
            return read_checkpoint_file(path).family
        unet = json.loads((path / "unet" / "config.json").read_text(encoding="utf-8"))
        has_second_encoder = (path / "text_encoder_2").exists()
        return detect_family(
            path.name,
            input_channels=unet.get("in_channels", 4),
            conditioner_encoders=(path / "text_encoder").exists() + 1 if has_second_encoder else 0,
            is_open_clip=bool(unet.get("use_linear_projection")),
        )
    except (OSError, ValueError, AttributeError, HostError):
        return ""
