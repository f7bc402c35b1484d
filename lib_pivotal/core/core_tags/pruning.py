"""Leaves core tags out of captions where they can only describe the concept that they belong to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from lib_pivotal.core.config.concept import Concept
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.core_tags.evidence import Evidence
from lib_pivotal.core.core_tags.tagged_image import TaggedImage, people_in, plain_tag, tagged_images
from lib_pivotal.core.data.scan import DatasetImage

__all__ = ["Pruner", "core_tags_of", "pruner_for", "pruner_of", "prunes"]


class Pruner:
    """Leaves core tags out of captions.

    A tag is left out if it is a core tag of a concept that the caption mentions, and nobody else in the image can have
    it: no stranger, who is there if more people are counted than named, and no other concept that has the tag in images
    of it alone without it being one of its core tags.

    Args:
        core: name of a concept → its core tags as plain tags.
        evidence: says which tags other concepts have.
    """

    def __init__(self, core: Mapping[str, Collection[str]], evidence: Evidence) -> None:
        self._core = {name: frozenset(tags) for name, tags in core.items()}
        self._evidence = evidence
        self._names = {plain_tag(name) for name in core}

    def __call__(self, tags: Sequence[str], names: Collection[str]) -> list[str]:
        """The tags to keep, in order.

        Args:
            tags: all tags of a caption, with aliases replaced; sentences and names are always kept.
            names: concepts that the caption mentions.
        """
        plain = [plain_tag(tag) for tag in tags]
        people = people_in(plain)
        return [tag for tag, word in zip(tags, plain, strict=True) if not self.removes(word, names, people)]

    def removes(self, tag: str, names: Collection[str], people: int | None) -> bool:
        """Whether a tag is left out.

        Args:
            tag: a plain tag.
            names: concepts that the caption mentions.
            people: number of people that its tags count; None if they do not.
        """
        owners = {name for name in names if tag in self._core.get(name, ())}
        if not owners or tag in self._names or self._evidence.has_stranger(people, names):
            return False
        others = self._evidence.people(names) - owners
        return not any(self._evidence.can_own(name, tag) for name in others)


def core_tags_of(concept: Concept) -> frozenset[str]:
    """The core tags of a concept as plain tags."""
    return frozenset(plain_tag(tag) for tag in concept.core_tags) - {""}


def pruner_for(config: TrainConfig, images: Sequence[DatasetImage]) -> Pruner | None:
    """The pruner of a run; None if no caption is pruned.

    Args:
        config: its concepts and ``prune_core_tags`` are used.
        images: all images of the data set.
    """
    return pruner_of(config, tagged_images(images, config)) if prunes(config) else None


def pruner_of(config: TrainConfig, images: Sequence[TaggedImage]) -> Pruner:
    """The pruner of a run whose captions have been read.

    Args:
        config: its concepts are used.
        images: all images with captions.
    """
    core = {concept.name: core_tags_of(concept) for concept in config.concepts}
    return Pruner(core, Evidence(images, config.concepts))


def prunes(config: TrainConfig) -> bool:
    """Whether any caption may lose a tag."""
    return config.prune_core_tags and any(concept.core_tags for concept in config.concepts)
