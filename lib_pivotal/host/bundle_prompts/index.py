"""Which names each LoRA file contains, remembered across restarts of the webui."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib_pivotal.core.bundle.embeddings import paired_files, read_embeddings
from lib_pivotal.core.prompt_names.options import parse_name_options
from lib_pivotal.host.bundle_prompts.settings import read_settings
from lib_pivotal.host.webui.lora_extension import find_file

__all__ = ["names_in", "names_of_tag"]

_SECTION = "pivotal-bundled-names"


def names_in(path: str) -> list[tuple[str, int]]:
    """Name and number of vectors of each embedding in a LoRA file, and of those next to it if the settings say so.

    Host: modules/cache.py, ``cached_data_for_file``, A1111 1.6.1-1.10.1, Forge: keeps an answer until the file
        changes; a page of a thousand cards must not open a thousand files each time.
    """
    from modules import cache

    def read() -> dict[str, Any]:
        return {"names": _names(path, with_paired=False)}

    # Files next to a LoRA change independently, so a cached answer could be out of date; few LoRAs have such files.
    if read_settings().with_paired and paired_files(Path(path)):
        return _names(path, with_paired=True)
    kept = cache.cached_data_for_file(_SECTION, path, path, read) or {}
    return [(str(name), int(count)) for name, count in kept.get("names", ())]


def _names(path: str, *, with_paired: bool) -> list[tuple[str, int]]:
    if not path.lower().endswith(".safetensors"):
        return []
    found = read_embeddings(Path(path), with_paired=with_paired).embeddings.values()
    return [(item.name, item.vector_count) for item in found]


def names_of_tag(tag: str) -> list[tuple[str, int]]:
    """Names and numbers of vectors for a tag in a prompt, with the names that the tag gives them.

    Args:
        tag: its inside without ``lora:``, such as ``NAME:1:ti=x_``; nothing is found for a LoRA that does not exist.
    """
    items = tag.split(":")
    options, path = parse_name_options(items), find_file(items[0])
    if path is None or options.is_off or not read_settings().is_on:
        return []
    try:
        return [(options.name_of(name), count) for name, count in names_in(path)]
    except OSError:
        # It was deleted, and the webui has not listed its files again since.
        return []
