"""Which tags the images of each concept have, and to whom a tag can belong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from lib_pivotal.core.config.concept import Concept
from lib_pivotal.core.core_tags.tagged_image import TaggedImage
from lib_pivotal.core.data.caption_tags import plain_words

__all__ = ["MIN_ALONE", "Evidence"]

MIN_ALONE = 3
"""Images of a concept alone that are enough to say which tags it has."""


class Evidence:
    """Tags of the images of each concept.

    Args:
        images: with captions; those in prose have no tags and are ignored.
        concepts: of the run.

    Attributes:
        styles: names of the concepts whose class is a style; they are nobody in the image.
    """

    def __init__(self, images: Sequence[TaggedImage], concepts: Sequence[Concept]) -> None:
        self._images = [image for image in images if not image.is_prose]
        self._of: dict[str, list[TaggedImage]] = {concept.name: [] for concept in concepts}
        for image in self._images:
            for name in image.names:
                self._of[name].append(image)
        self.styles = frozenset(concept.name for concept in concepts if _is_style(concept))
        self._alone = {name: [image for image in found if self._is_alone(image)] for name, found in self._of.items()}
        self._all_counts = counted(self._images)
        self._counts = {name: counted(found) for name, found in self._of.items()}
        self._alone_counts = {name: counted(found) for name, found in self._alone.items()}

    def of(self, name: str) -> Sequence[TaggedImage]:
        """The images that mention a concept."""
        return self._of[name]

    def alone(self, name: str) -> Sequence[TaggedImage]:
        """The images that show nobody else than a concept."""
        return self._alone[name]

    def is_known(self, name: str) -> bool:
        """Whether there are enough images of a concept alone to say which tags it has."""
        return len(self._alone[name]) >= MIN_ALONE

    def counts(self, name: str) -> Counter[str]:
        """Plain tag → number of images of a concept alone, or of all its images if these are too few."""
        return self._alone_counts[name] if self.is_known(name) else self._counts[name]

    def share_elsewhere(self, name: str, tag: str) -> float:
        """Share of the images without a concept that have a tag; 0 if there are none."""
        others = len(self._images) - len(self._of[name])
        return (self._all_counts[tag] - self._counts[name][tag]) / others if others else 0.0

    def can_own(self, name: str, tag: str) -> bool:
        """Whether a tag may describe a concept: images of it alone have it, or there are too few of them to tell."""
        return not self.is_known(name) or self._alone_counts[name][tag] > 0

    def people(self, names: Collection[str]) -> frozenset[str]:
        """The names without styles."""
        return frozenset(names) - self.styles

    def has_stranger(self, image_people: int | None, names: Collection[str]) -> bool:
        """Whether more people are counted than named.

        Args:
            image_people: number of people that the tags count; None if they do not.
            names: concepts that the caption mentions.
        """
        return image_people is not None and image_people > max(1, len(self.people(names)))

    def _is_alone(self, image: TaggedImage) -> bool:
        return len(self.people(image.names) or image.names) == 1 and (image.people is None or image.people <= 1)


def counted(images: Sequence[TaggedImage]) -> Counter[str]:
    """Plain tag → number of images that have it."""
    return Counter(tag for image in images for tag in image.tags)


def _is_style(concept: Concept) -> bool:
    return plain_words(concept.class_noun).split()[-1:] == ["style"]
