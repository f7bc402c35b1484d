"""reForge's loaded model as the engine sees it."""

from __future__ import annotations

from lib_pivotal.host.a1111.model import A1111Model
from lib_pivotal.host.reforge.text import TransformersEncoder

__all__ = ["ReforgeModel"]


class ReforgeModel(A1111Model):
    """Like A1111's, with other text encoders; implements ``core.ports.DiffusionModel``."""

    open_clip = TransformersEncoder
