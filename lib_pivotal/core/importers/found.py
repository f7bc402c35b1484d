"""Collects what is found in the settings of another program: our settings, and everything that has no meaning here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from lib_pivotal.core.bundle.names import Tokenizer
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.config.subset import TRAIN
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.importers.names import follow_rules
from lib_pivotal.core.printable import printable

__all__ = ["Found", "ImportResult", "mapping", "objects"]

_MAX_FOLDERS = 5
"""Number of folders in which relative paths are looked for."""
_MAX_KEY_LENGTH = 300


@dataclass(frozen=True)
class ImportResult:
    """The settings of another program, as ours.

    Attributes:
        kind: what was read, in words.
        config: our settings; those that the file does not determine have their defaults.
        given: names of the settings of ``config`` that the file determines.
        unused: keys and files that have no meaning here, in the order in which they were found.
        problems: warnings about what is read differently, or not at all.
    """

    kind: str
    config: TrainConfig
    given: frozenset[str] = frozenset()
    unused: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass
class Found:
    """Filled by the reader of a format.

    Attributes:
        base: folder that relative paths in the file are relative to.
        kind: what the file is, in words.
        settings: our settings by name.
        concepts: our concepts, as in JSON.
        subsets: our subsets, as in JSON.
        unused: keys and files without a meaning here.
        problems: warnings.
    """

    base: Path
    kind: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    concepts: list[dict[str, Any]] = field(default_factory=list)
    subsets: list[dict[str, Any]] = field(default_factory=list)
    unused: dict[str, None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def put(self, name: str, value: Any) -> None:
        """Set one of our settings, unless the value is None."""
        if value is not None:
            self.settings[name] = value

    def leave(self, key: str) -> None:
        """Note a key or a file that has no meaning here."""
        self.unused[printable(key, _MAX_KEY_LENGTH)] = None

    def warn(self, where: str, message: str, hint: str = "") -> None:
        """Add a warning, unless it is there already.

        Args:
            where: the key or file.
            message: what is different.
            hint: what to do.
        """
        problem = Problem(printable(where, _MAX_KEY_LENGTH), "warning", message, hint)
        if problem not in self.problems:
            self.problems.append(problem)

    def path(self, text: str) -> str:
        """A path from the file, as it is or absolute.

        Relative paths are relative to the folder in which the other program runs, which may be a folder around the
        file's own.
        """
        text = text.strip()
        if not text or Path(text).is_absolute() or PureWindowsPath(text).is_absolute():
            return text
        try:
            candidates = [folder / text for folder in [self.base, *self.base.parents][:_MAX_FOLDERS]]
            return next((str(path.resolve()) for path in candidates if path.exists()), text)
        except (OSError, ValueError):
            return text

    def agree(self, name: str, key: str, values: list[Any]) -> None:
        """Set one of our settings that is one for the whole data set to what the folders of the file say.

        Args:
            name: our setting.
            key: its key in the file.
            values: the folders' values; the first one is used, and a warning says if others differ.
        """
        values = [value for value in values if value is not None]
        if not values:
            return
        self.settings[name] = values[0]
        if any(value != values[0] for value in values):
            text = f"The folders have different values; {shown(values[0])} is used for all."
            self.warn(key, text, f"Change {name} if you prefer another.")

    def result(self, tokenizer: Tokenizer | None) -> ImportResult:
        """Everything found, with names that follow our rules.

        Args:
            tokenizer: text → token ids; None skips the name checks that need it.
        """
        self._prefer_repeats()
        for old, new in follow_rules(self.concepts, self.subsets, tokenizer).items():
            text = f"{printable(old)} cannot be a name here, so the concept is called {new}."
            self.warn(old, text, "The old name is one of its caption tags, so captions need no change.")
        lists = {name: value for name, value in (("concepts", self.concepts), ("subsets", self.subsets)) if value}
        config, faults = read_dict({**self.settings, **lists})
        for fault in faults:
            self.warn(fault.field, fault.message, fault.hint)
        given = frozenset((*self.settings, *lists))
        return ImportResult(self.kind, config, given, tuple(self.unused), tuple(self.problems))

    def _prefer_repeats(self) -> None:
        """Turn off balancing by concept where the file itself says how often images are shown."""
        repeats = {subset.get("repeats", 1.0) for subset in self.subsets if subset.get("kind", TRAIN) == TRAIN}
        if len(repeats) > 1:
            self.settings.setdefault("balance", 0.0)
        if self.settings.get("balance") == 0.0:
            text = "The repeats in the file decide how often images are shown, so nothing else is balanced."
            self.warn("balance", text, "Set balance to 0.75 to balance the concepts as well.")


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is an object, otherwise an empty one."""
    return value if isinstance(value, Mapping) else {}


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects in a list; empty for anything else."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
