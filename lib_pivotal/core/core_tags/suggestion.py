"""Suggests core tags and initialization texts from the captions of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lib_pivotal.core.config.concept import Concept
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.core_tags.evidence import MIN_ALONE, Evidence
from lib_pivotal.core.core_tags.initialization import initialization_text
from lib_pivotal.core.core_tags.looks import Look, find_looks
from lib_pivotal.core.core_tags.pruning import Pruner, core_tags_of
from lib_pivotal.core.core_tags.tag_classes import TagClasses
from lib_pivotal.core.core_tags.tagged_image import tagged_images
from lib_pivotal.core.data.scan import DatasetImage

__all__ = ["ASKED", "NEVER", "TICKED", "ConceptTags", "Suggestions", "TagRow", "apply", "suggest"]

TICKED = "ticked"
ASKED = "asked"
NEVER = "never"

_MIN_CANDIDATE = 0.35
_MIN_TICKED = 0.5
_MIN_ASKED = 0.6
_RIVAL = 0.25
_ALWAYS_WORN = 0.8
"""Shares of the images of a concept alone from which on a tag is a candidate, is ticked, is asked about if it may be
either, competes with its rivals, or counts as always worn."""
_MIN_TAGGED = 0.5
"""Share of captions that must be tags."""


@dataclass(frozen=True)
class TagRow:
    """A tag that may be a core tag of a concept.

    Attributes:
        tag: the plain tag.
        tag_class: name of its class.
        state: ``ticked`` (suggested), ``asked`` (the user decides) or ``never`` (changes from image to image).
        count: number of images of the concept with the tag, of those that are counted.
        share: the same as a share, 0 … 1.
        elsewhere: share of the images without the concept that have the tag, 0 … 1.
        removed: number of captions that would lose the tag.
        hint: what the user should know; may be empty.
    """

    tag: str
    tag_class: str
    state: str
    count: int
    share: float
    elsewhere: float
    removed: int
    hint: str = ""


@dataclass(frozen=True)
class ConceptTags:
    """The suggestions for one concept.

    Attributes:
        name: of the concept.
        images: number of images that mention it, without those in prose.
        alone: number of images that show nobody else.
        rows: its tags, suggested ones first.
        init_text: initialization text from the suggested tags, or from the concept's own core tags if it has any.
        looks: groups of images that look different.
        hints: what the user should know.
    """

    name: str
    images: int
    alone: int
    rows: tuple[TagRow, ...] = ()
    init_text: str = ""
    looks: tuple[Look, ...] = ()
    hints: tuple[str, ...] = ()

    @property
    def ticked(self) -> tuple[str, ...]:
        """The suggested core tags, in order."""
        return tuple(row.tag for row in self.rows if row.state == TICKED)


@dataclass(frozen=True)
class Suggestions:
    """The suggestions for all concepts of a data set.

    Attributes:
        concepts: in the order of the settings; empty if there is nothing to suggest.
        captions: number of captions.
        prose: number of captions in prose, which are left out.
        reason: why there is nothing to suggest; empty if there is.
    """

    concepts: tuple[ConceptTags, ...]
    captions: int
    prose: int
    reason: str = ""


def suggest(
    config: TrainConfig,
    images: Sequence[DatasetImage],
    classes: TagClasses,
    tokenizer: Callable[[str], list[int]] | None = None,
) -> Suggestions:
    """Suggest core tags from captions alone.

    Args:
        config: its concepts are used.
        images: usable images of the data set.
        classes: classes of tags.
        tokenizer: text → token ids, to fit initialization texts; None counts words instead.
    """
    tagged = tagged_images(images, config)
    prose = sum(image.is_prose for image in tagged)
    reason = _why_not(config, len(tagged), prose)
    if reason:
        return Suggestions((), len(tagged), prose, reason)
    evidence = Evidence(tagged, config.concepts)
    found = [_Concept(concept, evidence, classes).suggestion() for concept in config.concepts]
    core = {item.name: frozenset(item.ticked) for item in found}
    return Suggestions(
        tuple(
            replace(
                item,
                rows=tuple(replace(row, removed=_removed(row.tag, item.name, core, evidence)) for row in item.rows),
                init_text=initialization_text(concept, item.ticked, evidence, tokenizer),
            )
            for concept, item in zip(config.concepts, found, strict=True)
        ),
        len(tagged),
        prose,
    )


def apply(config: TrainConfig, suggestions: Suggestions, *, replaces: bool = False) -> TrainConfig:
    """The settings with the suggested core tags and initialization texts.

    Args:
        config: the settings that the suggestions were made for.
        suggestions: see :func:`suggest`.
        replaces: whether to replace values that are there; otherwise only empty ones are filled.
    """
    if not suggestions.concepts:
        return config
    return replace(
        config,
        concepts=tuple(
            _filled(concept, found, replaces)
            for concept, found in zip(config.concepts, suggestions.concepts, strict=True)
        ),
    )


def _filled(concept: Concept, found: ConceptTags, replaces: bool) -> Concept:
    fills_tags = found.ticked and (replaces or not concept.core_tags)
    fills_text = found.init_text and (replaces or not concept.init_text.strip())
    return replace(
        concept,
        core_tags=found.ticked if fills_tags else concept.core_tags,
        init_text=found.init_text if fills_text else concept.init_text,
    )


def _why_not(config: TrainConfig, captions: int, prose: int) -> str:
    if not config.concepts:
        return "There are no concepts."
    if not captions:
        return "No image has a caption."
    if captions - prose < _MIN_TAGGED * captions:
        return f"{prose} of {captions} captions are sentences, and core tags can only be found in lists of tags."
    return ""


def _removed(tag: str, name: str, core: dict[str, frozenset[str]], evidence: Evidence) -> int:
    """Number of captions that lose a tag if it is a core tag of a concept, with all suggested ones."""
    pruner = Pruner({**core, name: core[name] | {tag}}, evidence)
    return sum(tag in image.tags and pruner.removes(tag, image.names, image.people) for image in evidence.of(name))


class _Concept:
    """Finds the core tags of one concept."""

    def __init__(self, concept: Concept, evidence: Evidence, classes: TagClasses) -> None:
        self._concept = concept
        self._name = concept.name
        self._evidence = evidence
        self._classes = classes
        self._is_known = evidence.is_known(self._name)
        self._images = evidence.alone(self._name) if self._is_known else evidence.of(self._name)
        self._counts = evidence.counts(self._name)
        self._written = {plain: tag for image in self._images for plain, tag in image.tags.items()}

    def suggestion(self) -> ConceptTags:
        """The suggestion, without initialization text and numbers of captions that change."""
        looks = find_looks(self._images, self._classes) if self._is_known else []
        rivals = self._rivals()
        rows = [row for tag in self._counts if (row := self._row(tag, rivals, looks)) is not None]
        order = (TICKED, ASKED, NEVER)
        rows.sort(key=lambda row: (order.index(row.state), -(row.share - row.elsewhere) * row.share, row.tag))
        return ConceptTags(
            self._name,
            images=len(self._evidence.of(self._name)),
            alone=len(self._evidence.alone(self._name)),
            rows=tuple(rows),
            looks=tuple(looks),
            hints=tuple(self._hints(rivals, looks)),
        )

    def _share(self, tag: str) -> float:
        return self._counts[tag] / len(self._images)

    def _row(self, tag: str, rivals: dict[str, str], looks: Sequence[Look]) -> TagRow | None:
        kind, share, count = self._classes.of(self._written[tag]), self._share(tag), self._counts[tag]
        is_frequent = count >= MIN_ALONE and share >= _MIN_CANDIDATE
        if not is_frequent or (kind.use != "permanent" and share < _MIN_ASKED):
            return None
        state, hint = {"permanent": TICKED, "ask": ASKED, "changing": NEVER}[kind.use], ""
        if state == TICKED:
            hint = self._doubt(tag, share, rivals, looks)
            state = ASKED if hint else TICKED
        elif kind.worn and share >= _ALWAYS_WORN:
            hint = "Always worn: as a core tag it becomes part of the name, otherwise prompts can change it."
        return TagRow(tag, kind.name, state, count, share, self._evidence.share_elsewhere(self._name, tag), 0, hint)

    def _doubt(self, tag: str, share: float, rivals: dict[str, str], looks: Sequence[Look]) -> str:
        """Why a permanent tag is not suggested; empty if it is."""
        if self._name in self._evidence.styles:
            return "The concept is a style, so the tag describes what was drawn in it."
        if share < _MIN_TICKED:
            return "Fewer than half of the images have it."
        if tag in rivals:
            return f"{rivals[tag]} is there as well, and only one of them can be meant."
        if not self._is_known and self._has_other_owner(tag):
            return "There are too few images of the concept alone to tell whose it is."
        if any(sum(tag in image.tags for image in look.images) < _MIN_TICKED * len(look.images) for look in looks):
            return "Not all looks have it."
        return ""

    def _has_other_owner(self, tag: str) -> bool:
        """Whether somebody else who is in an image with the tag may own it."""
        return any(
            self._evidence.has_stranger(image.people, image.names)
            or any(self._evidence.can_own(name, tag) for name in self._evidence.people(image.names) - {self._name})
            for image in self._images
            if tag in image.tags
        )

    def _rivals(self) -> dict[str, str]:
        """Tag → another one of its class that excludes it and is frequent, too.

        Tags that are usually in the same images of one character, as with two-tone hair, do not exclude each other; in
        images with others they may belong to two characters.
        """
        groups: dict[str, list[str]] = {}
        for tag in self._counts:
            kind = self._classes.of(self._written[tag])
            if kind.rivals and self._share(tag) >= _RIVAL:
                groups.setdefault(kind.name, []).append(tag)
        found: dict[str, str] = {}
        for tags in groups.values():
            ordered = sorted(tags, key=lambda tag: (-self._counts[tag], tag))
            for tag in ordered:
                other = next((other for other in ordered if other != tag and not self._go_together(tag, other)), None)
                if other is not None:
                    found[tag] = other
        return found

    def _go_together(self, tag: str, other: str) -> bool:
        both = sum(tag in image.tags and other in image.tags for image in self._images)
        return self._is_known and 2 * both > min(self._counts[tag], self._counts[other])

    def _hints(self, rivals: dict[str, str], looks: Sequence[Look]) -> list[str]:
        hints = []
        if not self._images:
            return ["No caption with tags mentions it."]
        if not self._is_known:
            alone = len(self._evidence.alone(self._name))
            text = f"Only {alone} images show it alone, so all {len(self._images)} that mention it are counted."
            hints.append(f"{text} If it is a style, set its class to style.")
        if rivals:
            pairs = sorted({" and ".join(sorted(pair)) for pair in rivals.items()})
            text = f"It has more than one look: {'; '.join(pairs)}."
            hints.append(f"{text} Give each look a name of its own, or leave these tags in the captions.")
        if looks:
            parts = [
                f"{self._name}_form{number} ({len(look.images)} images: {', '.join(look.tags) or 'nothing in common'})"
                for number, look in enumerate(looks, start=1)
            ]
            hints.append(f"Its images form groups that could be concepts of their own: {', '.join(parts)}.")
        own = core_tags_of(self._concept)
        if own:
            hints.append(f"Its core tags are set already: {', '.join(sorted(own))}.")
        return hints
