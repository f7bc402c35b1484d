"""The caption of a step, made from the caption of an image.

The order is: a line and its choices (caption_choices.py), a template (caption_template.py), prefix, suffix and names
that always apply, aliases (caption_names.py), core tags and tags to remove, fixed and flexible parts
(caption_parts.py); then, here, warm-up, one draw of empty, names or full, tag dropout and shuffling. Only choices and
what is here are random.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.caption_parts import CaptionParser, CaptionParts, Part, Prune
from lib_pivotal.core.data.caption_tags import plain_words
from lib_pivotal.core.data.caption_template import read_templates
from lib_pivotal.core.data.chosen_text import CaptionTexts

__all__ = ["EMPTY", "FULL", "NAMES", "CaptionMaker", "CaptionOutlook", "DrawnCaption", "Prune", "plain_words"]

FULL = "full"
NAMES = "names"
EMPTY = "empty"
"""What a step makes of a caption: it keeps everything but single tags, only the names, or nothing."""


class DrawnCaption(NamedTuple):
    """The caption of one step.

    Attributes:
        kind: ``"full"``, ``"names"`` or ``"empty"``.
        parts: what is trained, in order.
        removed: tags that no step trains: core tags and tags to remove.
        origin: the caption before anything random happened to its parts; those that stay are the same objects.
    """

    kind: str
    parts: Sequence[Part]
    removed: tuple[str, ...]
    origin: CaptionParts

    @property
    def text(self) -> str:
        """What is trained."""
        return ", ".join([part.text for part in self.parts])

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags in it, in order."""
        return tuple(tag for part in self.parts for tag in part.tags)


class CaptionOutlook(NamedTuple):
    """What to expect of a caption.

    Attributes:
        names: concepts that it may mention, and those that always apply.
        is_always_named: whether it mentions a concept whatever is chosen.
        longest: the whole caption with the choices that make it longest.
    """

    names: frozenset[str]
    is_always_named: bool
    longest: str


class CaptionMaker:
    """Makes the captions of steps for the images of one folder.

    Args:
        concepts: their names are kept, and their aliases are replaced with the names.
        config: its settings of captions are used.
        subset: the folder, with the data set's settings filled in; None takes them from ``config``.
        spaces: whether underscores become spaces if ``config.underscores`` is ``auto``.
        prune: chooses the tags to keep, which removes core tags; None keeps all.

    Raises:
        ConfigError: the file of the templates cannot be used.
    """

    def __init__(
        self,
        concepts: Sequence[Concept],
        config: TrainConfig,
        subset: Subset | None = None,
        *,
        spaces: bool = False,
        prune: Prune | None = None,
    ) -> None:
        self._config = config
        templates = read_templates(config.caption_template)
        self._parser = CaptionParser(
            concepts,
            config,
            subset,
            uses_spaces=config.underscores == "spaces" or (spaces and config.underscores == "auto"),
            prune=prune,
            has_templates=bool(templates),
        )
        self._texts = CaptionTexts(
            templates, self._parser.own_name, self._parser.names_in, has_choices=config.random_choices
        )

    def concepts_in(self, caption: str) -> set[str]:
        """Names of the concepts that the caption may mention, by name or alias, and those that always apply."""
        return set(self.outlook(caption).names)

    def outlook(self, caption: str) -> CaptionOutlook:
        """What all lines, templates and choices of a caption have in common, as far as they were tried."""
        parsed = [self._parser.parts(text) for text in self._texts.variants(caption)]
        return CaptionOutlook(
            names=frozenset(name for parts in parsed for name in parts.names),
            is_always_named=all(parts.names for parts in parsed),
            longest=max((_whole(parts) for parts in parsed), key=len),
        )

    def vary(self, caption: str, rng: random.Random, progress: float = 1.0) -> str:
        """The text of :meth:`draw`."""
        return self.draw(caption, rng, progress).text

    def draw(self, caption: str, rng: random.Random, progress: float = 1.0) -> DrawnCaption:
        """The caption of one step, which depends only on the arguments and the generator's state.

        With probability ``caption_dropout`` it is empty, with probability ``name_only`` it is reduced to the names;
        otherwise parts that mention a concept come first and unchanged, and the others are shuffled and
        randomly dropped.

        Args:
            caption: of the image.
            rng: chooses; a caption without choices takes the same random numbers whatever the other settings are.
            progress: of the tag warm-up, 0 … 1.
        """
        config = self._config
        origin = self._parser.parts(self._texts.chosen(caption, rng.randrange))
        head, flexible, tail, names, removed = origin
        chance = rng.random()
        if chance < config.caption_dropout:
            return DrawnCaption(EMPTY, (), removed, origin)
        if names and chance < config.caption_dropout + config.name_only:
            return DrawnCaption(NAMES, self._only_names(names, rng), removed, origin)
        if progress < 1.0 and flexible:
            flexible = flexible[: 1 + int(progress * (len(flexible) - 1))]
        if config.tag_dropout > 0:
            flexible = self._after_dropout(flexible, rng)
        if config.shuffle_tags:
            flexible = rng.sample(flexible, len(flexible))
        return DrawnCaption(FULL, [*head, *flexible, *tail], removed, origin)

    def full(self, caption: str) -> str:
        """The whole caption in its own order, with the first option of each choice; nothing in it is random."""
        return _whole(self._parser.parts(self._texts.chosen(caption, lambda _: 0)))

    def _only_names(self, names: Sequence[str], rng: random.Random) -> list[Part]:
        # Without the setting no random number is taken, as in runs from before there was one.
        if len(names) > 1 and self._config.single_name > 0 and rng.random() < self._config.single_name:
            names = [rng.choice(names)]
        return [Part(name, (name,), is_protected=True, names=(name,)) for name in names]

    def _after_dropout(self, parts: Sequence[Part], rng: random.Random) -> list[Part]:
        rate = self._config.tag_dropout
        if not self._config.tag_dropout_by_position or len(parts) < 2:
            return [part for part in parts if rng.random() >= rate or part.is_protected]
        slope = 2 * rate / (len(parts) - 1)
        return [part for index, part in enumerate(parts) if rng.random() >= slope * index or part.is_protected]


def _whole(parts: CaptionParts) -> str:
    return ", ".join([part.text for part in (*parts.head, *parts.flexible, *parts.tail)])
