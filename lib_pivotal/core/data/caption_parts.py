"""Divides the text of a caption into what is fixed at every step and what is shuffled and dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.caption_names import NamedTag, NameFinder
from lib_pivotal.core.data.caption_tags import TagRule, inner_tag, with_spaces
from lib_pivotal.core.data.caption_template import with_name
from lib_pivotal.core.data.caption_units import Unit, UnitParser, remaining

__all__ = ["CaptionParser", "CaptionParts", "Part", "Prune"]

Prune = Callable[[Sequence[str], Sequence[str]], Iterable[str]]
"""Called with the tags of a caption and the names that it mentions; returns the tags to keep."""

_MAX_CACHED = 50_000
"""Maximum number of captions whose parts are remembered."""


class Part(NamedTuple):
    """Tags that are shuffled and dropped together, usually one.

    Attributes:
        text: what is trained.
        tags: the tags in it.
        is_protected: whether it is never dropped.
        names: concepts that it mentions.
        written: how it is written in the caption if an alias was replaced in it; otherwise empty.
    """

    text: str
    tags: tuple[str, ...]
    is_protected: bool
    names: tuple[str, ...] = ()
    written: str = ""


class CaptionParts(NamedTuple):
    """A caption before anything random happens to its parts.

    Attributes:
        head: fixed parts in front: prefix, kept tags, and all that mention a concept.
        flexible: parts that are shuffled and dropped.
        tail: fixed parts at the end.
        names: concepts that it mentions or that always apply.
        removed: core tags and tags to remove.
    """

    head: list[Part]
    flexible: list[Part]
    tail: list[Part]
    names: tuple[str, ...]
    removed: tuple[str, ...]


class CaptionParser:
    """Divides captions of one folder into parts, each caption once.

    Args:
        concepts: their names and aliases are found.
        config: its settings of captions are used.
        subset: the folder, with the data set's settings filled in; None takes them from ``config``.
        uses_spaces: whether underscores become spaces.
        prune: chooses the tags to keep, which removes core tags; None keeps all.
        has_templates: whether templates may add a name that is also in the caption.
    """

    def __init__(
        self,
        concepts: Sequence[Concept],
        config: TrainConfig,
        subset: Subset | None,
        *,
        uses_spaces: bool,
        prune: Prune | None,
        has_templates: bool,
    ) -> None:
        self._finder = NameFinder(concepts, keeps_escapes=config.emphasis)
        self._units = UnitParser(
            self._finder, config.keep_separator, config.group_separator, has_emphasis=config.emphasis
        )
        self._uses_spaces = uses_spaces
        self._prune = prune
        self._drops = TagRule(config.drop_tags)
        self._protects = TagRule(config.protected_tags)
        always = subset.always if subset else ()
        self._always = tuple(dict.fromkeys(self._finder.name_of(name) or name for name in always if name.strip()))
        only = concepts[0].name if len(concepts) == 1 else None
        self.own_name = ", ".join(self._always) or only
        """What ``[name]`` stands for; None if captions have to say it."""
        prefix = with_name(subset.caption_prefix if subset else config.caption_prefix, self.own_name)
        suffix = with_name(subset.caption_suffix if subset else config.caption_suffix, self.own_name)
        self._head_is_over = self._units.separates(prefix)
        self._front, self._back = (self._units.parse(text).units for text in (prefix, suffix))
        self._keep_first = subset.keep_first if subset else config.keep_first
        # A name that is added may also be in the caption.
        self._is_named_once = has_templates or bool(self._front or self._back)
        self._parsed: dict[str, CaptionParts] = {}

    def parts(self, text: str) -> CaptionParts:
        """The parts of a text in which all choices have been made."""
        parsed = self._parsed.get(text)
        if parsed is None:
            if len(self._parsed) >= _MAX_CACHED:
                self._parsed.clear()
            parsed = self._parsed[text] = self._parse(text)
        return parsed

    def names_in(self, text: str) -> Sequence[str]:
        """The concepts that a text itself mentions, in order."""
        return _names(self._units.parse(text).units)

    def _parse(self, text: str) -> CaptionParts:
        own = self._units.parse(text, head_is_over=self._head_is_over)
        names = list(self._always)
        for unit in (*self._front, *own.units, *self._back):
            for tag in unit:
                names += [name for name in tag.names if name not in names]
        written = _names([*self._front, *own.units])
        front = [*self._front, *([NamedTag(name, (name,))] for name in self._always if name not in written)]
        seen = set(_names(front))
        removed: list[str] = []
        head, middle, tail = self._cleaned([self._named_once(side, seen) for side in own], names, removed)
        kept = max(0, self._keep_first - len(head))
        head, rest = [*head, *middle[:kept]], middle[kept:]
        flexible = [unit for unit in rest if not any(tag.names for tag in unit)]
        return CaptionParts(
            head=self._finished([*front, *head, *(unit for unit in rest if any(tag.names for tag in unit))]),
            flexible=self._finished(flexible),
            tail=self._finished([*tail, *self._named_once(self._back, seen)]),
            names=tuple(names),
            removed=tuple(removed),
        )

    def _named_once(self, units: list[Unit], seen: set[str]) -> list[Unit]:
        """Leave out tags that are just a name which was written before, if names may have been added."""
        if not self._is_named_once:
            return units
        result = []
        for unit in units:
            if len(unit) == 1 and unit[0].names == (unit[0].text,) and unit[0].text in seen:
                continue
            seen.update(_names([unit]))
            result.append(unit)
        return result

    def _cleaned(self, sides: Sequence[list[Unit]], names: Sequence[str], removed: list[str]) -> tuple[list[Unit], ...]:
        """The units without core tags and tags to remove, which are added to ``removed``."""
        if self._prune is None and not self._drops:
            return tuple(sides)
        inner = {tag.text: inner_tag(tag.text) for side in sides for unit in side for tag in unit if not tag.names}
        kept = set(inner.values() if self._prune is None else self._prune(list(inner.values()), names))

        def is_removed(tag: NamedTag) -> bool:
            gone = not tag.names and (inner[tag.text] not in kept or self._drops.matches(tag.text))
            if gone:
                removed.append(tag.text)
            return gone

        cleaned = [[remaining(unit, [is_removed(tag) for tag in unit]) for unit in side] for side in sides]
        return tuple([unit for unit in side if unit] for side in cleaned)

    def _finished(self, units: Iterable[Unit]) -> list[Part]:
        return [self._part(unit) for unit in units]

    def _part(self, unit: Unit) -> Part:
        tags = tuple([tag.text for tag in unit])
        if self._uses_spaces:
            tags = tuple(with_spaces(tag, self._finder.names) for tag in tags)
        is_protected = bool(self._protects) and any(self._protects.matches(tag) for tag in tags)
        has_alias = any(tag.written for tag in unit)
        written = ", ".join(tag.written or tag.text for tag in unit) if has_alias else ""
        return Part(", ".join(tags), tags, is_protected, tuple(_names([unit])), written)


def _names(units: Iterable[Unit]) -> list[str]:
    return list(dict.fromkeys(name for unit in units for tag in unit for name in tag.names))
