"""The built-in presets and the user's own, which are files in the data folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.core.bundle.names import check_file_name
from lib_pivotal.core.config.presets import Preset, find_preset, preset_of, presets, read_preset
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.settings_file import parse_settings, read_settings_file
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem
from lib_pivotal.core.printable import printable

__all__ = ["PresetLibrary"]

logger = logging.getLogger("pivotal.presets")

_FOLDER = "presets"
_MAX_COUNT = 500
_FIELD = "preset_name"


class PresetLibrary:
    """Lists, saves and deletes presets; the built-in ones never change.

    Args:
        data_root: returns the data folder.
    """

    def __init__(self, data_root: Callable[[], Path]) -> None:
        self._data_root = data_root

    def all(self) -> tuple[list[Preset], list[Problem]]:
        """The built-in presets, then the user's own by name, and a problem for each file that cannot be used."""
        found, problems = list(presets()), []
        for name, path in self._files().items():
            try:
                found.append(_read(path, name))
            except ConfigError as error:
                reason = "; ".join(f"{problem.message} {problem.hint}".strip() for problem in error.problems[:3])
                problems.append(Problem(printable(path.name), "warning", f"This preset cannot be used. {reason}", ""))
        return found, problems

    def find(self, name: str) -> Preset:
        """The preset of this name or title.

        Raises:
            ConfigError: there is none, or its file cannot be used.
        """
        files = self._files()
        return _read(files[name], name) if name in files else find_preset(name)

    def is_own(self, name: str) -> bool:
        """Whether a preset is the user's own."""
        return name in self._files()

    def save(self, name: str, config: TrainConfig, *, overwrite: bool = False) -> Preset:
        """Save settings as a preset of the user.

        Args:
            name: of the preset.
            config: the settings; paths, names, prompts and other texts are left out.
            overwrite: whether to replace a preset of the user with this name.

        Raises:
            ConfigError: the name cannot be used, or is taken.
            PivotalError: the file cannot be written.
        """
        name = name.strip()
        problems = _name_problems(name)
        if any(name in (preset.name, preset.title) for preset in presets()):
            problems = [Problem(_FIELD, "error", "This is the name of a built-in preset.", "Choose another name.")]
        elif not problems and self._path(name).exists() and not overwrite:
            problems.append(Problem(_FIELD, "error", f"There is already a preset {name}.", "Allow replacing it."))
        if problems:
            raise ConfigError(problems)
        preset = preset_of(config, name)
        values = {"why": preset.why, "settings": preset.settings, "concept": preset.concept}
        try:
            self._path(name).parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path(name), keep=False) as partial:
                partial.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")
        except OSError as error:
            message = f"The preset cannot be saved ({error.strerror or error})."
            raise PivotalError(message, hint="Check free disk space and write permission.") from error
        return preset

    def delete(self, name: str) -> None:
        """Delete a preset of the user.

        Raises:
            ConfigError: it is built in, or does not exist.
            PivotalError: the file cannot be deleted.
        """
        files = self._files()
        if name not in files:
            text = "Only your own presets can be deleted." if name else "No preset is selected."
            raise ConfigError([Problem("preset", "error", text, "Choose one of them.")])
        try:
            files[name].unlink()
        except OSError as error:
            raise PivotalError(f"The preset cannot be deleted ({error.strerror or error}).") from error

    def exists(self, name: str) -> bool:
        """Whether saving under this name would replace a preset of the user."""
        return not check_file_name(name.strip()) and self._path(name.strip()).exists()

    def _path(self, name: str) -> Path:
        return self._data_root() / _FOLDER / f"{name}.json"

    def _files(self) -> dict[str, Path]:
        """The user's files by name; a file with the name of a built-in preset is left out."""
        built_in = {text for preset in presets() for text in (preset.name, preset.title)}
        try:
            files = sorted((self._data_root() / _FOLDER).glob("*.json"), key=lambda path: path.name.lower())
        except OSError as error:
            logger.warning("the presets cannot be listed: %s", error)
            return {}
        named = {printable(path.stem, None): path for path in files[:_MAX_COUNT] if not path.name.startswith(".")}
        return {name: path for name, path in named.items() if name not in built_in}


def _name_problems(name: str) -> list[Problem]:
    """Why a preset cannot have this name, which is also that of its file."""
    if not name:
        return [Problem(_FIELD, "error", "The preset has no name.", 'Enter one under "Name of the new preset".')]
    text = f"'{printable(name, 60)}' is not a valid file name."
    return [Problem(_FIELD, item.severity, text, item.hint) for item in check_file_name(name)]


def _read(path: Path, name: str) -> Preset:
    return read_preset(parse_settings(read_settings_file(path)), name)
