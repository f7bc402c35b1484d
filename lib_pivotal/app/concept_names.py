"""Adds names from files and folders to the concepts on the tab; nothing else of the files is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lib_pivotal.app.session import Session
from lib_pivotal.app.settings_sources import import_from
from lib_pivotal.core.bundle.names import token_key
from lib_pivotal.core.config.concept import Concept
from lib_pivotal.core.config.concept_lines import is_empty_row
from lib_pivotal.core.config.io import to_dict
from lib_pivotal.core.config.schema import TrainConfig, concept_field_info
from lib_pivotal.core.data.folder import find_folder
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.importers.folder_names import import_folder_names
from lib_pivotal.core.importers.found import ImportResult

__all__ = ["AddedNames", "add_folder_names", "add_names_of_file"]


@dataclass(frozen=True)
class AddedNames:
    """Concepts with those of a file or a folder added.

    Attributes:
        rows: all concepts, as in JSON; rows that were there stay in their order.
        added: number of new rows.
        problems: warnings about what is read differently.
    """

    rows: list[Any]
    added: int
    problems: tuple[Problem, ...]


def add_names_of_file(session: Session, path: str, rows: Sequence[Any]) -> AddedNames:
    """Add the concepts in the settings of another program or in a list of names.

    Args:
        session: knows the webui.
        path: file or folder on the webui's computer, as the user typed it.
        rows: concepts as in JSON, which may be invalid.

    Raises:
        ConfigError: it cannot be read, is of no known kind, or has no concepts.
    """
    result = import_from(session.host, path)
    if not result.config.concepts:
        text = f"There are no names in it: it was read as {result.kind}."
        raise ConfigError([Problem("path", "error", text, "Choose a file that lists embeddings.")])
    return _added(rows, result)


def add_folder_names(session: Session, folder: str, rows: Sequence[Any]) -> AddedNames:
    """Add a concept for each folder with images in a folder, usually the image folder.

    Args:
        session: knows the webui.
        folder: path on the webui's computer, as the user typed it.
        rows: concepts as in JSON, which may be invalid.

    Raises:
        ConfigError: the folder cannot be read, or has no folders with images.
    """
    path, obstacle = find_folder(folder)
    if obstacle is not None:
        raise ConfigError([Problem("data_folder", "error", *obstacle)])
    return _added(rows, import_folder_names(path, session.host.tokenizer()))


def _added(rows: Sequence[Any], result: ImportResult) -> AddedNames:
    """A row with a name that is imported, too, gets the settings that it does not have; empty rows are removed."""
    additions = {token_key(concept.name): concept for concept in result.config.concepts}
    kept: list[Any] = []
    for row in rows:
        if not isinstance(row, Mapping):
            kept.append(row)
            continue
        addition = additions.pop(token_key(str(row.get("name", ""))), None)
        kept.append(row if addition is None else {**row, **_missing(row, addition)})
    kept = [row for row in kept if not is_empty_row(row)]
    return AddedNames([*kept, *map(_plain, additions.values())], len(additions), result.problems)


def _missing(row: Mapping[str, Any], addition: Concept) -> dict[str, Any]:
    """Settings of the addition that the row has no value of its own for."""
    info = concept_field_info()
    values = _plain(addition)
    return {
        name: value
        for name, value in values.items()
        if name != "name" and row.get(name, info[name]["default"]) in (info[name]["default"], "", [])
    }


def _plain(concept: Concept) -> dict[str, Any]:
    plain: dict[str, Any] = to_dict(TrainConfig(concepts=(concept,)))["concepts"][0]
    return plain
