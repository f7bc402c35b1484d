"""The caption that a step predicts against: the negative embeddings of the concepts that the caption mentions."""

from __future__ import annotations

from collections.abc import Iterable

from lib_pivotal.core.config.concept import Concept
from lib_pivotal.core.config.negative import negative_names
from lib_pivotal.core.data.caption import DrawnCaption

__all__ = ["NegativeCaptions"]


class NegativeCaptions:
    """Makes negative captions.

    Args:
        concepts: those without a negative embedding are left out.
    """

    def __init__(self, concepts: Iterable[Concept]) -> None:
        self._with_negative = {concept.name: concept for concept in concepts if concept.negative_vectors}

    def of(self, caption: DrawnCaption) -> str:
        """The negative caption of an item; empty if its caption mentions nothing that has a negative embedding.

        It consists of names alone, because the rest of the caption is what the image is to show.

        Args:
            caption: of the item.
        """
        if not self._with_negative:
            return ""
        names = dict.fromkeys(name for part in caption.parts for name in part.names)
        return negative_names(self._with_negative[name] for name in names if name in self._with_negative)
