"""Finds the caption in what other programs write as JSON: boards, taggers, waifuc and trainers.

Only plain JSON types are read. waifuc stores other Python objects as pickles, which would be executed when they are
loaded; such values are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["caption_in", "has_objects", "parse_json"]

_TEXTS = ("caption", "text", "prompt", "additional_feature")
"""Keys of whole captions."""

_TAGS = ("processed_tags", "tags", "tag_string")
"""Keys of tags, the first one that says something counts."""

_GROUPS = ("artist", "copyright", "character", "species", "general")
"""Groups of a board's tags, in the order of the caption."""
_LEFT_OUT = ("meta", "metadata", "invalid", "deprecated", "rating")

_PICKLED = "__type"


def parse_json(text: str) -> Any:
    """Parse JSON; whole numbers of any length are read as floats.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text, parse_int=float)
    except RecursionError:
        raise ValueError("the brackets are nested too deeply") from None


def caption_in(value: Any, *, joins_tags: bool = True, is_board: bool = True) -> str | None:
    """The caption of an image as one text; None if there is none.

    Args:
        value: what JSON says about an image: its caption, or an object with ``caption`` and tags, as text, as a list,
            as groups or with scores.
        joins_tags: whether tags follow the caption, as kohya's scripts do it; otherwise they are its replacement.
        is_board: whether tags are written as on boards, with underscores for spaces and separated by spaces.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        return None
    caption = next((value[key] for key in _TEXTS if isinstance(value.get(key), str) and value[key].strip()), "")
    if caption and not joins_tags:
        return caption
    tags = _tags_in(value, is_board)
    if is_board:
        tags = [_spaced(tag) for tag in tags]
    return ", ".join(part for part in (caption.strip(), *tags) if part) or None


def has_objects(value: Any) -> bool:
    """Whether a value contains parts that would have to be unpickled."""
    if isinstance(value, Mapping):
        return _PICKLED in value or any(has_objects(item) for item in value.values())
    return isinstance(value, list) and any(has_objects(item) for item in value)


def _tags_in(value: Mapping[str, Any], is_board: bool) -> list[str]:
    for prefix in ("tag_string_", "tags_"):
        if tags := _from_groups(value, prefix, is_board):
            return tags
    for key in _TAGS:
        if tags := _listed(value.get(key), is_board):
            characters = _listed(value.get("characters"), is_board)
            return [*(name for name in characters if name not in tags), *tags]
    return _from_groups(value, "", is_board) or _listed(value.get("characters"), is_board)


def _from_groups(value: Mapping[str, Any], prefix: str, is_board: bool) -> list[str]:
    return [tag for group in _GROUPS for tag in _listed(value.get(prefix + group), is_board)]


def _listed(tags: Any, is_board: bool) -> list[str]:
    """Tags from a text, a list, an object of scores, or an object of groups."""
    if isinstance(tags, str):
        by_spaces = is_board and "," not in tags
        return [tag for part in (tags.split() if by_spaces else tags.split(",")) if (tag := part.strip())]
    if isinstance(tags, list):
        return [tag.strip() for tag in tags if isinstance(tag, str) and tag.strip()]
    if not isinstance(tags, Mapping) or _PICKLED in tags:
        return []
    if all(isinstance(score, (int, float)) for score in tags.values()):
        return [tag.strip() for tag in tags if tag.strip()]
    order = [*(group for group in _GROUPS if group in tags), *(group for group in tags if group not in _GROUPS)]
    groups = [tags[group] for group in order if group not in _LEFT_OUT]
    return [tag for group in groups if isinstance(group, (str, list)) for tag in _listed(group, is_board)]


def _spaced(tag: str) -> str:
    """A board's tag as text; emoticons such as ``^_^`` stay as they are."""
    return tag.replace("_", " ") if any(len(part) > 1 for part in tag.split("_")) else tag
