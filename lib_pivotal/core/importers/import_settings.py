"""Recognizes the settings of other training programs by their contents, and reads them as ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_pivotal.core.bundle.names import Tokenizer
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.schema import LISTS, field_info
from lib_pivotal.core.config.subset import TRAIN
from lib_pivotal.core.data.folder import list_folder
from lib_pivotal.core.importers import kohya_training, onetrainer
from lib_pivotal.core.importers.found import Found, ImportResult
from lib_pivotal.core.importers.hcp import read_hcp
from lib_pivotal.core.importers.kohya_data_set import add_repeat_folders, read_data_set, repeat_folders
from lib_pivotal.core.importers.name_lists import (
    add_core_tags,
    add_initializations,
    add_names,
    is_core_tags,
    is_initializations,
)
from lib_pivotal.core.importers.screenshot_pipeline import find_training_folder, read_tree
from lib_pivotal.core.importers.source_file import parse, refusal

__all__ = ["import_settings"]

_YAML = (".yaml", ".yml")
_FILES = (".toml", ".json", ".csv", *_YAML)


def import_settings(path: Path, tokenizer: Tokenizer | None = None) -> ImportResult:
    """Read the settings of another program, or a folder as it lays them out; nothing is written.

    Known are: data set and training files of kohya's scripts (TOML, JSON) and their folders, training files of
    HCP-Diffusion (YAML), concept lists and training files of OneTrainer (JSON), the folders and lists of
    anime_screenshot_pipeline (JSON), and CSV tables of names.

    Args:
        path: file or folder.
        tokenizer: text → token ids, to find names that are words of the vocabulary; may be None.

    Raises:
        ConfigError: it cannot be read, or is of no known kind.
    """
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as error:
        raise refusal(path, f"It cannot be read ({error}).", "Check the path.") from error
    found = Found(base=(path if is_folder else path.parent).absolute())
    if is_folder:
        _read_folder(path.absolute(), found)
    elif path.suffix.lower() == ".csv":
        found.kind = "table of names"
        add_names(path, found)
    elif path.suffix.lower() in _YAML:
        read_hcp(path, found)
    else:
        values = parse(path)
        if isinstance(values, Mapping) and "config_version" in values:
            return _own(values)
        _read_values(path, values, found)
    return found.result(tokenizer)


def _own(values: Mapping[str, Any]) -> ImportResult:
    """Settings of this project."""
    config, problems = read_dict(values)
    given = frozenset(values) & {*LISTS, *field_info()}
    return ImportResult("settings of this extension", config, given, (), tuple(problems))


def _read_values(path: Path, values: Any, found: Found) -> None:
    if isinstance(values, list) and any(isinstance(item, Mapping) and "path" in item for item in values):
        onetrainer.read_concepts(values, found)
    elif isinstance(values, Mapping) and "datasets" in values:
        read_data_set(values, found)
    elif isinstance(values, Mapping) and ("additional_embeddings" in values or "concept_file_name" in values):
        onetrainer.read_training(values, found)
    elif isinstance(values, Mapping) and kohya_training.is_training_file(values):
        kohya_training.read_training(values, found)
    elif is_core_tags(values) or ("core" in path.stem.lower() and is_initializations(values)):
        found.kind = "core tags"
        add_core_tags(values, found)
    elif is_initializations(values):
        found.kind = "initialization texts of embeddings"
        add_initializations(values, found)
    else:
        raise refusal(path, _why_unknown(values))


def _why_unknown(values: Any) -> str:
    is_metadata = isinstance(values, Mapping) and any(
        isinstance(value, Mapping) and ("caption" in value or "tags" in value) for value in values.values()
    )
    if is_metadata:
        return "It has captions of images. It needs no import: leave it in the image folder, where it is found."
    return "It is not the settings file of a known program."


def _read_folder(folder: Path, found: Found) -> None:
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in _FILES)
    if find_training_folder(folder) is not None:
        read_tree(folder, found)
    elif repeat_folders(folder):
        found.kind = "image folders of kohya's scripts"
        add_repeat_folders(found, folder, TRAIN)
    elif list_folder(folder).images:
        found.kind = "image folder"
        found.put("data_folder", str(folder))
        for path in files:
            text = "The images of this folder are used; this file was not read."
            found.warn(path.name, text, "If it has settings, import the file itself.")
            found.leave(path.name)
    else:
        names = ", ".join(path.name for path in files[:5])
        hint = f"Import one of its files: {names}." if names else "Choose a settings file or an image folder."
        raise refusal(folder, "The folder has no images.", hint)
