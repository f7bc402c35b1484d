"""Where things lie in an A1111 webui."""

from __future__ import annotations

from pathlib import Path

__all__ = ["data_root", "lora_folder"]


def lora_folder() -> Path:
    """Folder whose files ``<lora:NAME:1>`` finds.

    Host: extensions-builtin/Lora/preload.py, ``--lora-dir``, A1111 1.6.1-1.10.1: always set, its default is
    ``models/Lora``.
    """
    from modules import shared

    return Path(shared.cmd_opts.lora_dir)


def data_root() -> Path:
    """Our own folder: the setting ``pivotal_data_folder``, else ``pivotal-tuning`` in the data folder.

    Host: modules/paths_internal.py, ``data_path``, A1111 1.6.1-1.10.1: the folder of ``--data-dir``.
    """
    from modules import paths, shared

    chosen = getattr(shared.opts, "pivotal_data_folder", "")
    return Path(chosen) if chosen else Path(paths.data_path) / "pivotal-tuning"
