"""Whether reForge's loaded model can be trained."""

from __future__ import annotations

from typing import Any

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.host.a1111 import family

__all__ = ["require_trainable"]


def require_trainable(model: Any) -> None:
    """Refuse every model that this version cannot train in reForge.

    Raises:
        HostError: as in A1111, or the model is of a family whose text encoder differs from A1111's.

    Host: modules_forge/forge_clip.py, ``CLIP_SD_21_H``, ``CLIP_SD_XL_G``, reForge: encoders of transformers, where
        A1111 has those of open_clip.
    """
    family.require_trainable(model)
    found = FAMILIES[family.family_of(model)]
    if any(encoder.is_open_clip for encoder in found.text_encoders):
        name = getattr(getattr(model, "sd_checkpoint_info", None), "name", "The selected checkpoint")
        text = f"{name} is {found.title}, which cannot be trained in reForge yet."
        raise HostError(text, hint="Train SD1 checkpoints here, and SD2 and SDXL in AUTOMATIC1111 or Forge.")
