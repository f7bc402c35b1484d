"""Why an image or its caption cannot be used."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Flaw", "UnusableCaption"]


class Flaw(NamedTuple):
    """Why an image cannot be used, continuing the sentence "The image a.png …", and what to do.

    Attributes:
        reason: what is wrong.
        hint: what to do.
        is_reported: whether a finding about the whole folder says it already.
    """

    reason: str
    hint: str
    is_reported: bool = False


class UnusableCaption(Exception):
    """A file with the caption of an image cannot be used.

    Args:
        reason: continues the sentence "The image a.png …".
        hint: what to do.
    """

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.flaw = Flaw(reason, hint)
