"""Writes core tags as files for other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib_pivotal.core.config.concept import Concept
from lib_pivotal.core.errors import ConfigError, Problem

__all__ = ["export_tags"]


def export_tags(concepts: Sequence[Concept], folder: Path) -> list[Path]:
    """Write ``wildcard.txt``, ``core_tags.json`` and ``emb_init.json``.

    Args:
        concepts: with core tags and initialization texts.
        folder: created if missing.

    Returns:
        The files.

    Raises:
        ConfigError: one of the files exists.
        OSError: they cannot be written.

    Source: https://github.com/cyber-meow/anime_screenshot_pipeline, ``docs/Dataset_organization.md``, for the names and
        contents of the files.
    """
    contents = {
        "wildcard.txt": "".join(f"{line}\n" for concept in concepts for line in _prompts(concept)),
        "core_tags.json": _as_json({concept.name: _core_tags(concept) for concept in concepts}),
        "emb_init.json": _as_json({concept.name: _initial(concept) for concept in concepts}),
    }
    for name in contents:
        if (folder / name).exists():
            hint = "Choose another folder, or remove the file."
            raise ConfigError([Problem(str(folder / name), "error", "It already exists.", hint)])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        with (folder / name).open("x", encoding="utf-8") as file:
            file.write(text)
    return [folder / name for name in contents]


def _prompts(concept: Concept) -> list[str]:
    """The name, and the name with its core tags if it has any."""
    return list(dict.fromkeys([concept.name, ", ".join([concept.name, *concept.core_tags])]))


def _core_tags(concept: Concept) -> dict[str, list[str]]:
    return {"kept": [], "dropped": list(concept.core_tags), "emb_init": _initial(concept)}


def _initial(concept: Concept) -> list[str]:
    return [concept.init_text] if concept.init_text.strip() else []


def _as_json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
