"""The notation in which HCP-Diffusion writes what an embedding starts from: words, and noise as ``*[std, vectors]``.

Source: https://github.com/IrisRainbowNeko/HCP-Diffusion, hcpdiff/tools/create_embedding.py.
"""

from __future__ import annotations

import re
from typing import Any

from lib_pivotal.core.importers.found import Found

__all__ = ["initialization"]

_NOISE = re.compile(r"\*\s*(?:\[\s*(?P<std>\d*\.?\d+(?:[eE]-?\d+)?)\s*(?:,\s*(?P<count>\d{1,4})\s*)?\])?")
_VOCABULARY_STD = 0.014
"""About the standard deviation of the vectors of CLIP's vocabulary."""


def initialization(found: Found, where: str, text: str) -> dict[str, Any]:
    """Initialization text and number of vectors of a concept, from words with or without noise.

    The noise always has the spread of the vocabulary here; a warning says if the file asks for much more.

    Args:
        found: receives the warning.
        where: the key or name in messages.
        text: such as ``red hat *[0.1, 4]``.
    """
    result: dict[str, Any] = {"init_text": " ".join(_NOISE.sub(" ", text).split()).strip(" ,")}
    counts = [int(match["count"]) for match in _NOISE.finditer(text) if match["count"]]
    if counts:
        result["vectors"] = min(sum(counts), 75)
    for match in _NOISE.finditer(text):
        if match["std"] and float(match["std"]) > 2 * _VOCABULARY_STD:
            times = round(float(match["std"]) / _VOCABULARY_STD)
            message = f"The noise {match.group()} is {times} times as long as the vectors of the vocabulary."
            found.warn(where, message, f"Here noise has their length, as *[{_VOCABULARY_STD}] would have.")
    return result
