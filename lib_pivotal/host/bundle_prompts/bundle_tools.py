"""What the tab's bundle tools need from a webui; works in every webui."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.host.bundle_prompts.install import active_names
from lib_pivotal.host.webui import folders
from lib_pivotal.host.webui.lora_extension import list_files_again

__all__ = ["WebuiBundleTools"]


class WebuiBundleTools:
    """Implements ``app.bundle_library.BundleToolsHost`` for every webui with bundle prompts."""

    def lora_folder(self) -> Path:
        """The folder of LoRAs and bundles."""
        return folders.lora_folder()

    def embedding_folder(self) -> Path:
        """The folder of ordinary embedding files."""
        return folders.embedding_folder()

    def split_folder(self) -> Path:
        """The folder ``split`` in the extension's data folder."""
        return folders.data_folder() / "split"

    def tokenizer(self) -> Callable[[str], list[int]] | None:
        """The loaded model's first tokenizer (text → token ids), or None while no model is loaded."""
        names = active_names()
        encoders = names.encoders() if names is not None else None
        if encoders is None:
            return None
        return lambda text: list(next(iter(encoders.runs(text)), ()))

    def load_safely(self, path: Path) -> Mapping[str, Any]:
        """Contents of a ``.pt`` or ``.bin`` file by the webui's own restricted reader.

        Raises:
            ValueError: the reader was switched off.
            TypeError: it refused the file.

        Host: modules/safe.py, ``load``, A1111 1.6.1-1.10.1, Forge: None for a file it refuses; with
            ``--disable-safe-unpickle`` it unpickles any file. Forge-Neo has no such flag, and its ``load`` is pickle's
            own, which runs whatever a file says; torch's reader for weights is used there.
        """
        from modules import safe, shared

        if getattr(shared.cmd_opts, "disable_safe_unpickle", False):
            raise ValueError("the webui was started with --disable-safe-unpickle")
        if safe.load is pickle.load:
            contents = torch.load(path, map_location="cpu", weights_only=True)
        else:
            contents = safe.load(str(path), map_location="cpu")
        if not isinstance(contents, dict):
            raise TypeError("the webui's reader refused it")
        return contents

    def files_changed(self) -> None:
        """Have the webui list its LoRA files again."""
        list_files_again()
