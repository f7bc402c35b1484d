"""What the bundle tools of the tab need from a webui; the same in all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lib_pivotal.host.loader.encoders import live_encoders
from lib_pivotal.host.loader.networks import lora_extension

__all__ = ["WebuiBundleTools"]


class WebuiBundleTools:
    """Implements ``app.bundle_library.BundleToolsHost`` for every webui that the loader knows."""

    def lora_folder(self) -> Path:
        """Where LoRAs and bundles are.

        Host: extensions-builtin/Lora/preload.py, ``--lora-dir``, A1111 1.6.1-1.10.1, Forge (sd_forge_lora): always set.
        """
        from modules import shared

        return Path(shared.cmd_opts.lora_dir)

    def embedding_folder(self) -> Path:
        """Where ordinary embedding files are.

        Host: modules/cmd_args.py, ``--embeddings-dir``, A1111 1.6.1-1.10.1, Forge: always set.
        """
        from modules import shared

        return Path(shared.cmd_opts.embeddings_dir)

    def split_folder(self) -> Path:
        """``split`` in the extension's data folder: the setting, else ``pivotal-tuning`` in the webui's.

        Host: modules/paths_internal.py, ``data_path``, A1111 1.6.1-1.10.1, Forge: the folder of ``--data-dir``.
        """
        from modules import paths, shared

        chosen = getattr(shared.opts, "pivotal_data_folder", "")
        return (Path(chosen) if chosen else Path(paths.data_path) / "pivotal-tuning") / "split"

    def tokenizer(self) -> Callable[[str], list[int]] | None:
        """Ids of a text under the loaded model's first tokenizer, or None while no model is loaded."""
        encoders = live_encoders()
        if encoders is None:
            return None
        return lambda text: list(next(iter(encoders.runs(text)), ()))

    def load_safely(self, path: Path) -> Mapping[str, Any]:
        """Contents of a ``.pt`` or ``.bin`` file by the webui's own restricted reader.

        Raises:
            ValueError: the reader was switched off.
            TypeError: it refused the file.

        Host: modules/safe.py, ``load``, A1111 1.6.1-1.10.1, Forge: None for a file it refuses; with
            ``--disable-safe-unpickle`` it reads everything.
        """
        from modules import safe, shared

        if shared.cmd_opts.disable_safe_unpickle:
            raise ValueError("the webui was started with --disable-safe-unpickle")
        contents = safe.load(str(path), map_location="cpu")
        if not isinstance(contents, dict):
            raise TypeError("the webui's reader refused it")
        return contents

    def files_changed(self) -> None:
        """Let the webui list its LoRAs anew.

        Host: networks.py, ``list_available_networks``, A1111 1.6.1-1.10.1, Forge: what the refresh button calls.
        """
        extension = lora_extension()
        if extension is not None and hasattr(extension, "list_available_networks"):
            extension.list_available_networks()
