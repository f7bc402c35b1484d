"""Cleans the text of a caption, whatever its source."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

__all__ = ["CaptionText", "clean_caption", "is_damaged", "prompt_end"]

_INFOTEXT = re.compile(r"(?:^|\s)(?:Negative prompt:|Steps: \d+, (?:Sampler|Schedule type|CFG scale|Seed|Size)\b)")
"""Where the prompt ends in the text file that the webui can save next to an image.

Host: modules/infotext_utils.py (generation_parameters_copypaste.py before 1.8), ``parse_generation_parameters``, A1111
    1.6.1-1.10.1: the prompt, ``Negative prompt: …`` on a line of its own, then ``Steps: 20, Sampler: …``.
"""

_LINE_END = re.compile(r"\r\n?|[\x85\u2028\u2029]")
_SPACE = re.compile("[\u00a0\u2007\u200b\u202f]")
_INVISIBLE = re.compile("[\u00ad\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
"""Soft hyphens, word joiners, byte order marks and marks of the text direction. Joiners between letters
(U+200C, U+200D) stay, because they are part of the spelling in several scripts."""

_WIDE_COMMA = re.compile("[\uff0c\u3001\uff64] *")

_HALF_PAIR = re.compile("[\ud800-\udfff]")
"""Half of a character, from JSON or from a file name that is not UTF-8."""

_DAMAGED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]")


class CaptionText(NamedTuple):
    """A caption ready for use.

    Attributes:
        text: the stripped text; its lines are kept.
        is_cut: whether the webui's generation data followed and was removed.
        had_wide_commas: whether full-width or ideographic commas were replaced.
    """

    text: str
    is_cut: bool = False
    had_wide_commas: bool = False


def clean_caption(text: str, *, fix_punctuation: bool) -> CaptionText:
    """Remove what is invisible and what the webui writes after the prompt.

    Args:
        text: as it was read.
        fix_punctuation: replace full-width and ideographic commas with commas.
    """
    text = _HALF_PAIR.sub("\ufffd", _LINE_END.sub("\n", text))
    text = unicodedata.normalize("NFC", text)
    text = _INVISIBLE.sub("", _SPACE.sub(" ", text))
    end = prompt_end(text)
    is_cut = end < len(text)
    text = text[:end].strip()
    has_wide = fix_punctuation and _WIDE_COMMA.search(text) is not None
    if has_wide:
        text = _WIDE_COMMA.sub(", ", text).strip()
    return CaptionText(text, is_cut, has_wide)


def prompt_end(text: str) -> int:
    """Where the caption ends in a text: in front of the webui's generation data, or at the end of the text."""
    match = _INFOTEXT.search(text)
    return match.start() if match else len(text)


def is_damaged(text: str) -> bool:
    """Whether a caption contains control characters, or the character that stands for unreadable ones."""
    return _DAMAGED.search(text) is not None
