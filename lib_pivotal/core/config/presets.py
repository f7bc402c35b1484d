"""Settings that suit a kind of data set, one JSON file each; they never contain paths, names or prompts."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.errors import ConfigError, Problem

__all__ = ["Preset", "find_preset", "presets", "with_preset"]

_FOLDER = Path(__file__).parents[1] / "presets"


@dataclass(frozen=True)
class Preset:
    """Settings for a kind of data set.

    Attributes:
        name: the name used on the command line and in the API.
        title: the name shown to users.
        why: what the settings are good for, one or two sentences.
        family: family of models that they are meant for, see ``core.families``.
        settings: name → value. All presets set the same settings, so that one replaces another completely.
        concept: the same for the settings of each concept.
    """

    name: str
    title: str
    why: str
    family: str
    settings: Mapping[str, Any]
    concept: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values that are serializable as JSON."""
        return asdict(self)


@lru_cache(maxsize=1)
def presets() -> tuple[Preset, ...]:
    """All presets, sorted by name."""
    files = sorted(_FOLDER.glob("*.json"))
    return tuple(Preset(name=file.stem, **json.loads(file.read_text(encoding="utf-8"))) for file in files)


def find_preset(name: str) -> Preset:
    """The preset of a name or title.

    Raises:
        ConfigError: there is none; the hint names a similar one or all.
    """
    for preset in presets():
        if name in (preset.name, preset.title):
            return preset
    names = [preset.name for preset in presets()]
    similar = difflib.get_close_matches(name[:100], names, 1)
    hint = f"Did you mean {similar[0]}?" if similar else f"Use one of {', '.join(names)}."
    raise ConfigError([Problem("preset", "error", f"There is no preset {shown(name)}.", hint)])


def with_preset(values: Any, name: str) -> Any:
    """Plain settings with those of a preset filled in; what they already contain stays as it is.

    Args:
        values: as read from JSON; anything but an object is returned unchanged, for ``read_dict`` to report.
        name: of the preset.

    Raises:
        ConfigError: there is no such preset.
    """
    preset = find_preset(name)
    if not isinstance(values, Mapping):
        return values
    result = {**preset.settings, **values}
    concepts = result.get("concepts")
    if isinstance(concepts, (list, tuple)):
        result["concepts"] = [{**preset.concept, **item} if isinstance(item, Mapping) else item for item in concepts]
    return result
