"""The webui's folders, and our own folder for runs and caches."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SETTINGS_SECTION", "add_data_folder_setting", "data_folder", "embedding_folder", "lora_folder"]

SETTINGS_SECTION = ("pivotal", "Pivotal Tuning")
"""Our section of the Settings page: its key and its title."""
_DATA_FOLDER = "pivotal_data_folder"


def lora_folder() -> Path:
    """Folder whose files ``<lora:NAME:1>`` finds.

    Host: extensions-builtin/Lora/preload.py, ``--lora-dir``, A1111 1.6.1-1.10.1, Forge (sd_forge_lora), reForge: always
        set, its default is ``models/Lora``.
    """
    from modules import shared

    return Path(shared.cmd_opts.lora_dir)


def embedding_folder() -> Path:
    """Folder of ordinary embedding files.

    Host: modules/cmd_args.py, ``--embeddings-dir``, A1111 1.6.1-1.10.1, Forge, reForge: always set.
    """
    from modules import shared

    return Path(shared.cmd_opts.embeddings_dir)


def data_folder() -> Path:
    """Our own folder: the one in the settings, or ``pivotal-tuning`` in the webui's data folder.

    Host: modules/paths_internal.py, ``data_path``, A1111 1.6.1-1.10.1, Forge, reForge: the folder of ``--data-dir``.
    """
    from modules import paths, shared

    chosen = getattr(shared.opts, _DATA_FOLDER, "")
    return Path(chosen) if chosen else Path(paths.data_path) / "pivotal-tuning"


def add_data_folder_setting() -> None:
    """Put the choice of our folder on the Settings page; the API cannot change it.

    Host: modules/options.py, ``OptionInfo``, A1111 1.6.1-1.10.1, Forge, reForge.
    """
    from modules import shared

    label = "Folder for runs and caches (empty: pivotal-tuning in the webui's data folder)"
    option = shared.OptionInfo("", label, section=SETTINGS_SECTION, restrict_api=True)
    shared.opts.add_option(_DATA_FOLDER, option)
