"""Names that are tags of many prompts, so that they would be found where nobody means them."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["is_everyday_tag"]

_WORDS = re.compile(r"(?:\d+\+?)?[A-Za-z]+(?:[ _-]+[A-Za-z]+)*")
"""A number in front belongs to tags such as 1girl; one at the end, as in hero2, is a mark of made-up names."""

_NOUNS = frozenset(
    # Short: only what ends the tags that most captions and prompts are made of. Words that are surnames, too, such as
    # stone or hill, are left out.
    """
    arm arms armor background bag beach bed belt body book boot boots bottle bow boy boys building cap cape car
    cat cheeks child chair city close clothes cloud clouds coat collar color colors couple crown dog door dress ear
    earrings ears expression eye eyebrows eyes face feet finger fingers flower flowers focus food foot forest
    fur girl girls glasses gloves grass ground guy hair hand hands hat head headband heels hood hoodie horn
    horns house indoors jacket jeans jewelry leg legs light lighting lips man mask men mouth nail nails neck
    necklace night nose outdoors outfit painting pants pants person photo pose portrait quality ribbon ring room scarf
    shadow shirt shoe shoes shorts shot shoulders skin skirt skull sky sleeve sleeves smile socks stockings street style
    suit sunset sunglasses swimsuit sword table tail teeth tie tights tree trees umbrella uniform view viewer wall water
    window wing wings woman women world
    """.split()  # noqa: SIM905  (a list would fill a screen)
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
    return words[-1] in _NOUNS and all(_is_common(word, tokenizer, rare_from) for word in words)


def _is_common(word: str, tokenizer: Callable[[str], list[int]], rare_from: int) -> bool:
    ids = tokenizer(word)
    return len(word) > 1 and len(ids) == 1 and ids[0] < rare_from
