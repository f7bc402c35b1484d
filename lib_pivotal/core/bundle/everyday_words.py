"""Names that are tags of many prompts, so that they would be found where nobody means them."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["is_everyday_tag"]

_WORDS = re.compile(r"(?:\d+\+?)?[A-Za-z]+(?:[ _-]+[A-Za-z]+)*")
"""A number in front belongs to tags such as 1girl; one at the end, as in hero2, is a mark of made-up names."""

_NOUN = re.compile(
    # What ends the tags that most captions and prompts are made of. Words that are surnames, too, such as stone, are
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
    """Whether a name reads like a tag of many prompts: words that everybody uses, the last one a thing often shown.

    Args:
        name: of a concept.
        tokenizer: token ids of a text.
        rare_from: token ids from this one on stand for rare words.
    """
    if not _WORDS.fullmatch(name):
        return False
    words = re.findall("[a-z]+", name.lower())
    return _NOUN.fullmatch(words[-1]) is not None and all(_is_common(word, tokenizer, rare_from) for word in words)


def _is_common(word: str, tokenizer: Callable[[str], list[int]], rare_from: int) -> bool:
    ids = tokenizer(word)
    return len(word) > 1 and len(ids) == 1 and ids[0] < rare_from
