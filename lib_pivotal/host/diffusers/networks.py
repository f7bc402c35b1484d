"""The networks of a checkpoint, however it was stored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.host.diffusers.text import TextPart

__all__ = ["Networks"]


@dataclass
class Networks:
    """The contents of a checkpoint, on the CPU, in fp32, frozen.

    Attributes:
        source: file or folder it was read from.
        family: name of its family, see ``core.families``.
        texts: text encoders in the UNet's order.
        scale: factor from the VAE's latents to the UNet's.
        alphas_cumprod: fp32, shape ``(T,)``.
        native_resolution: side in px that it was made for.
    """

    source: Path
    family: str
    unet: Any
    vae: Any
    texts: tuple[TextPart, ...]
    scale: float
    alphas_cumprod: torch.Tensor
    is_v_prediction: bool
    native_resolution: int

    @cached_property
    def digest(self) -> str:
        """sha256 of the checkpoint file, or of a folder's ``.safetensors`` (otherwise ``.bin``) files in order."""
        if self.source.is_file():
            files = [self.source]
        else:
            files = sorted(self.source.rglob("*.safetensors")) or sorted(self.source.rglob("*.bin"))
        digest = hashlib.sha256()
        for path in files:
            with path.open("rb") as file:
                while block := file.read(2**22):
                    digest.update(block)
        return digest.hexdigest()
