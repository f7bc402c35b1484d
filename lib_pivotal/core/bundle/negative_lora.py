"""The file of a negative LoRA: a LoRA that is for the negative prompt only, next to the bundle it was trained with.

It has a file of its own, because in a bundle its keys would count as unknown ones, of which Forge accepts only a few.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["NEGATIVE_LORA_KEY", "is_negative_lora", "negative_path"]

NEGATIVE_LORA_KEY = "pivotal_negative_lora"
"""Key in the metadata; its value is the name of the bundle."""


def negative_path(bundle: Path) -> Path:
    """Path of the negative LoRA of a bundle, whether or not there is one."""
    return bundle.with_name(f"{bundle.stem}-neg{bundle.suffix}")


def is_negative_lora(metadata: Mapping[str, str]) -> bool:
    """Whether a file with this metadata is a negative LoRA."""
    return NEGATIVE_LORA_KEY in metadata
