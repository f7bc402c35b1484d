"""The headless host: models through diffusers and transformers, without a webui.

Status: careful, see tests/headless. Nothing here is imported inside a webui.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib_pivotal.host.diffusers.model import DiffusersModel

__all__ = ["load"]


def load(path: str | Path, *, clip_skip: int = 1, precision: str = "auto", device: str | None = None) -> DiffusersModel:
    """Load a model for training and previews; see :func:`lib_pivotal.host.diffusers.model.load_model`.

    Imports diffusers only when it is called, since that takes seconds and other modules of this package do without it.

    Args:
        path: ``.safetensors`` checkpoint or diffusers folder.
        clip_skip: 1 is the last layer.
        precision: ``auto``, ``fp32``, ``fp16`` or ``bf16``.
        device: torch device; None takes the GPU where there is one.

    Raises:
        HostError: there is no such model, or it cannot be trained.
    """
    from lib_pivotal.host.diffusers.model import load_model

    return load_model(Path(path), clip_skip=clip_skip, precision=precision, device=device)
