"""Warns about bundles that Forge without this extension rejects.

Host: extensions-builtin/sd_forge_lora/networks.py and backend/patcher/lora.py, Forge: a LoRA with more than 12 keys
    that it does not know is not loaded.
"""

from __future__ import annotations

from lib_pivotal.core.errors import Problem
from lib_pivotal.core.printable import printable

__all__ = ["MAX_KEYS_ON_FORGE", "check_key_count"]

MAX_KEYS_ON_FORGE = 12
"""Every embedding has one key per text encoder."""


def check_key_count(file_name: str, count: int) -> list[Problem]:
    """Warn if a file has too many embedding keys for Forge.

    Args:
        file_name: name of the file, for the message.
        count: number of embedding keys in the file.
    """
    if count <= MAX_KEYS_ON_FORGE:
        return []
    text = f"It has {count} embedding tensors; Forge without this extension rejects more than {MAX_KEYS_ON_FORGE}."
    return [Problem(printable(file_name), "warning", text, "Split it for Forge users.")]
