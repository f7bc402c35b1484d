"""Recognizes names that are common prompt tags and would match in prompts by accident."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["is_everyday_tag"]

_WORDS = re.compile(r"(?:\d+\+?)?[A-Za-z]+(?:[ _-]+[A-Za-z]+)*")
"""A leading number occurs in tags such as 1girl; a trailing one, as in hero2, suggests a made-up name."""

_NOUN = re.compile(
    # Last words of the most common tags in captions and prompts. Words that are also surnames, such as stone, are
    # left out.
    "arms?|armor|background|bags?|beach|bed|belt|body|books?|boots?|bottle|bow|boys?|building|cap|cape|cars?|cats?|cheeks|"
    "child|chair|city|close|clothes|clouds?|coat|collar|colors?|couple|crown|dogs?|door|dress|ears?|earrings|expression|"
    "eyes?|eyebrows|face|feet|fingers?|flowers?|focus|food|foot|forest|fur|girls?|glasses|gloves|grass|ground|guy|hair|"
    "hands?|hat|head|headband|heels|hood|hoodie|horns?|house|indoors|jacket|jeans|jewelry|legs?|light|lighting|lips|m[ae]n|"
    "mask|mouth|nails?|neck|necklace|night|nose|outdoors|outfit|painting|pants|person|photo|pose|portrait|quality|ribbon|"
    "ring|room|scarf|shadow|shirt|shoes?|shorts|shot|shoulders|skin|skirt|skull|sky|sleeves?|smile|socks|stockings|street|"
    "style|suit|sunset|sunglasses|swimsuit|sword|table|tail|teeth|tie|tights|trees?|umbrella|uniform|view|viewer|wall|"
    "water|window|wings?|wom[ae]n|world"
)


def is_everyday_tag(name: str, tokenizer: Callable[[str], list[int]], *, rare_from: int) -> bool:
    """Whether a name looks like a common tag: frequent words, of which the last names a thing that is often shown.

    Args:
        name: name of a concept.
        tokenizer: text → token ids.
        rare_from: token ids from this one on are rare words.
    """
    if not _WORDS.fullmatch(name):
        return False
    words = re.findall("[a-z]+", name.lower())
    return _NOUN.fullmatch(words[-1]) is not None and all(_is_common(word, tokenizer, rare_from) for word in words)


def _is_common(word: str, tokenizer: Callable[[str], list[int]], rare_from: int) -> bool:
    ids = tokenizer(word)
    return len(word) > 1 and len(ids) == 1 and ids[0] < rare_from
