"""Reads and writes settings as JSON."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from lib_pivotal.core.config.concept import Concept
from lib_pivotal.core.config.old_names import with_new_names
from lib_pivotal.core.config.schema import CONFIG_VERSION, LISTS, TrainConfig
from lib_pivotal.core.config.setting import setting_info
from lib_pivotal.core.config.settings_file import parse_settings
from lib_pivotal.core.config.shown import HALF_PAIR, shown
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.printable import printable

_T = TypeVar("_T")

__all__ = ["from_dict", "from_json", "read_dict", "read_json", "to_dict", "to_json"]

_MAX_TEXT_LENGTH = 20_000
"""Maximum length of a string. Real captions and prompts are far shorter, and tokenizers are slow with longer ones."""
_MAX_UNKNOWN = 20
"""Maximum number of unknown settings that are listed individually."""
_MAX_ITEMS = 10_000
"""Maximum length of a list of objects."""
_MAX_GUESSES = 200
"""Maximum number of names to suggest corrections for, which is slow, especially for long names."""
_MAX_GUESSED_LENGTH = 100


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain JSON-serializable values, ``config_version`` first."""
    values = asdict(config)
    lists = {name: [_plain(item) for item in values.pop(name)] for name in LISTS}
    return {"config_version": CONFIG_VERSION, **lists, **_plain(values)}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As in JSON: lists instead of tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def to_json(config: TrainConfig) -> str:
    """Indented JSON text of :func:`to_dict`."""
    return json.dumps(to_dict(config), indent=2, ensure_ascii=False)


def from_json(text: str | bytes) -> TrainConfig:
    """Settings from JSON text.

    Raises:
        ConfigError: not JSON, or any problem of :func:`read_dict`.
    """
    return _without_problems(*read_json(text))


def read_json(text: str | bytes) -> tuple[TrainConfig, list[Problem]]:
    """Settings from JSON text, and the problems found, see :func:`read_dict`.

    Raises:
        ConfigError: not a JSON object.
    """
    return read_dict(parse_settings(text))


def from_dict(values: Any) -> TrainConfig:
    """Settings from plain values; missing fields get their defaults.

    Raises:
        ConfigError: every problem of :func:`read_dict`, all at once.
    """
    return _without_problems(*read_dict(values))


def _without_problems(config: TrainConfig, problems: list[Problem]) -> TrainConfig:
    if problems:
        raise ConfigError(problems)
    return config


def read_dict(values: Any) -> tuple[TrainConfig, list[Problem]]:
    """Settings from plain values, and a problem for every unknown key and every value of the wrong type.

    Invalid values are replaced by their defaults, so that everything else can be checked in one pass; concepts keep
    their positions.

    Args:
        values: mapping of field names; ``concepts`` and ``subsets`` are lists of mappings.

    Raises:
        ConfigError: ``values`` is not a mapping.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            [Problem("config", "error", "The settings must be a JSON object.", "Enclose them in { and }.")]
        )
    problems: list[Problem] = []
    values = with_new_names(values)
    version = values.pop("config_version", CONFIG_VERSION)
    if version != CONFIG_VERSION:
        problems.append(
            Problem(
                "config_version",
                "error",
                f"Version {shown(version)} is not supported by this release, which supports {CONFIG_VERSION}.",
                "Update the extension, or save the settings again with this release.",
            )
        )
    raw = {name: values.pop(name, []) for name in LISTS}
    settings = _convert(values, _types(TrainConfig), "", problems)
    concepts = _objects(raw["concepts"], "concepts", Concept, "name", problems)
    subsets = _objects(raw["subsets"], "subsets", Subset, "folder", problems)
    return TrainConfig(concepts=tuple(concepts), subsets=tuple(subsets), **settings), problems


def _objects(raw: Any, setting: str, kind: type[_T], key: str, problems: list[Problem]) -> list[_T]:
    """Read a list of objects.

    Args:
        raw: the value from the file.
        setting: name of the list.
        kind: dataclass of its items.
        key: the field that every item needs.
        problems: receives what is wrong.
    """
    example = f'{{"{key}": "…"}}'
    if not isinstance(raw, (list, tuple)):
        problems.append(Problem(setting, "error", "This must be a list of objects.", f"Write [{example}]."))
        return []
    if len(raw) > _MAX_ITEMS:
        text = f"{len(raw)} {setting} are too many."
        problems.append(Problem(setting, "error", text, f"Use at most {_MAX_ITEMS}."))
    items = []
    types = _types(kind)
    for index, item in enumerate(raw[:_MAX_ITEMS]):
        where = f"{setting}[{index}]."
        if not isinstance(item, Mapping):
            problems.append(Problem(where[:-1], "error", "This must be an object.", f"Write {example}."))
            items.append(kind())
            continue
        if key not in item:
            text = f"Every one of the {setting} needs a {key}."
            problems.append(Problem(where + key, "error", text, "Add one."))
        items.append(kind(**_convert(dict(item), types, where, problems)))
    return items


def _types(owner: type) -> dict[str, str]:
    """Type name of each setting of a dataclass."""
    return {name: info["type"] for name, info in setting_info(owner).items() if name not in LISTS}


def _convert(values: dict[str, Any], known: Mapping[str, str], where: str, problems: list[Problem]) -> dict[str, Any]:
    result = {}
    unknown = 0
    for name, value in values.items():
        if name not in known:
            unknown += 1
            if unknown <= _MAX_UNKNOWN:
                may_guess = len(problems) < _MAX_GUESSES and len(str(name)) <= _MAX_GUESSED_LENGTH
                hint = _closest(str(name), known if may_guess else ())
                problems.append(Problem(where + printable(name), "error", "There is no such setting.", hint))
            continue
        converted = _as_type(value, known[name])
        if converted is None:
            problems.append(Problem(where + name, "error", *_misfit(value, known[name])))
            continue
        result[name] = converted
    if unknown > _MAX_UNKNOWN:
        text = f"{unknown - _MAX_UNKNOWN} more settings do not exist."
        problems.append(Problem(where.rstrip(".") or "config", "error", text, "Is this the right file?"))
    return result


_SPOKEN = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list of strings",
}


def _as_type(value: Any, kind: str) -> Any:
    """The value as ``kind``, or None if it is invalid (no setting may be null)."""
    if kind == "tuple":
        fits = isinstance(value, (list, tuple)) and all(_is_text(item) for item in value)
        return tuple(value) if fits else None
    if kind == "str":
        return value if _is_text(value) else None
    # Python treats True as a number, but people do not.
    if kind == "bool" or isinstance(value, bool):
        return value if kind == "bool" and isinstance(value, bool) else None
    return _as_number(value, kind)


def _as_number(value: Any, kind: str) -> float | int | None:
    try:
        number = float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        return None
    if kind == "float":
        return number if math.isfinite(number) else None
    return int(value) if number.is_integer() else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT_LENGTH and not HALF_PAIR.search(value)


def _misfit(value: Any, kind: str) -> tuple[str, str]:
    """Message and hint for a value that :func:`_as_type` rejected."""
    for text in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(text, str) and kind in ("str", "tuple"):
            if len(text) > _MAX_TEXT_LENGTH:
                return f"The text has {len(text)} characters.", f"Use at most {_MAX_TEXT_LENGTH}."
            if HALF_PAIR.search(text):
                return (
                    f"{shown(text)} contains half of a character, which cannot be saved in a file.",
                    "Type the text again.",
                )
    return f"{shown(value)} is not valid here.", f"It must be {_SPOKEN[kind]}."


def _closest(name: str, known: Iterable[str]) -> str:
    match = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {match[0]}?" if match else "Remove it, or look up the name in the option table."
