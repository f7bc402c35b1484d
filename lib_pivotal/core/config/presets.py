"""Settings that suit a kind of data set, one JSON file each; they never contain paths, names or prompts."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.schema import Concept, TrainConfig, concept_field_info, field_info
from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.errors import ConfigError, Problem

__all__ = ["Preset", "filled_in", "find_preset", "preset_of", "presets", "read_preset", "with_preset"]

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
    return filled_in(values, find_preset(name))


def filled_in(values: Any, preset: Preset) -> Any:
    """Like :func:`with_preset`, for any preset.

    Args:
        values: as in :func:`with_preset`.
        preset: built in or the user's own.
    """
    if not isinstance(values, Mapping):
        return values
    result = {**preset.settings, **values}
    concepts = result.get("concepts")
    if isinstance(concepts, (list, tuple)):
        result["concepts"] = [{**preset.concept, **item} if isinstance(item, Mapping) else item for item in concepts]
    return result


def preset_of(config: TrainConfig, name: str) -> Preset:
    """A preset with the settings of a run; those of all concepts are those of its first one.

    Texts that are typed in are left out: paths, names, prompts, captions and tags.

    Args:
        config: the settings.
        name: of the preset.
    """
    concept = config.concepts[0] if config.concepts else Concept()
    settings = {key: getattr(config, key) for key in _kept(field_info())}
    return Preset(name, name, "", "", settings, {key: getattr(concept, key) for key in _kept(concept_field_info())})


def read_preset(values: Any, name: str) -> Preset:
    """A preset of the user from plain values, which may have been written by hand or by another release.

    Args:
        values: an object with ``settings``, ``concept`` and optionally ``why``.
        name: of the preset.

    Raises:
        ConfigError: it is not such an object, or sets something that a preset must not or cannot set.
    """
    settings, concept = _objects(values)
    kept = _kept(field_info()), _kept(concept_field_info())
    foreign = [key for part, names in zip((settings, concept), kept, strict=True) for key in part if key not in names]
    if foreign:
        text = f"A preset cannot set {', '.join(shown(key) for key in foreign[:5])}."
        raise ConfigError([Problem("preset", "error", text, "Remove that, or save the preset again.")])
    config, problems = read_dict({**settings, "concepts": [{"name": "x", **concept}]})
    if problems:
        raise ConfigError(problems)
    read, why = preset_of(config, name), values.get("why", "")
    return Preset(
        name,
        name,
        why if isinstance(why, str) else "",
        "",
        {key: read.settings[key] for key in settings},
        {key: read.concept[key] for key in concept},
    )


def _objects(values: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The settings and those of concepts in the file of a preset."""
    if isinstance(values, Mapping):
        settings, concept = values.get("settings", {}), values.get("concept", {})
        if isinstance(settings, Mapping) and isinstance(concept, Mapping):
            return settings, concept
    text = "It has no object with settings."
    raise ConfigError([Problem("preset", "error", text, "Save it again, or delete it.")])


def _kept(fields: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The settings that a preset may have: numbers, switches and choices."""
    return [
        name
        for name, info in fields.items()
        if info["level"] != "headless" and (info["choices"] or info["type"] in ("int", "float", "bool"))
    ]
