"""Which names of downloaded embeddings may act in prompts, and names beside punctuation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["SpacedNames", "as_written", "mentioned_names", "why_unusable"]

_COMMON_BELOW = 30_000
"""CLIP's vocabulary is in order of frequency: words below this id are in everyday prompts."""
_SPECIAL = re.compile(r"<\|(startoftext|endoftext)\|>", re.IGNORECASE)


def why_unusable(name: str, ids: Sequence[int], *, is_chosen: bool = False) -> str:
    """Why a name must not act in prompts, or an empty text when it may.

    Args:
        name: as typed in a prompt.
        ids: its token ids, without start and end.
        is_chosen: the user asked for this name, so a common word will do.
    """
    if not name.strip() or not ids:
        return "the name is empty to the tokenizer"
    if _SPECIAL.search(name):
        return "the name holds a control word of the tokenizer"
    if all(not letter.isalnum() and letter.isascii() for letter in name):
        return "the name is nothing but punctuation, which every prompt has"
    if len(ids) == 1 and ids[0] < _COMMON_BELOW and not is_chosen:
        return "the name is a common word, which would change every prompt that has it"
    return ""


class SpacedNames:
    """Sets names that touch other punctuation apart from it with spaces.

    The tokenizer joins neighbouring punctuation into one token, so ``<s0>,`` would not hold the tokens of
    ``<s0>``; to spaces it pays no attention. Texts without such a place stay as they are.

    Args:
        names: all names that act, qualified ones too.
    """

    def __init__(self, names: Iterable[str]) -> None:
        # All names take part, the longest first, so that a short name inside a longer one is left alone.
        ordered = sorted({name for name in names if name.strip()}, key=len, reverse=True)
        has_edges = any(_is_mark(name[0]) or _is_mark(name[-1]) for name in ordered)
        parts = (r"\s+".join(re.escape(word) for word in name.split()) for name in ordered)
        self._pattern = re.compile("|".join(parts), re.IGNORECASE) if has_edges else None

    def __call__(self, text: str) -> str:
        """The text with spaces where they are needed."""
        if self._pattern is None:
            return text
        pieces, end = [], 0
        for found in self._pattern.finditer(text):
            pieces.append(text[end : found.start()])
            # Right after another name the space is there already.
            if _touch(text, found.start()) and (found.start() > end or end == 0):
                pieces.append(" ")
            pieces.append(found.group())
            if _touch(text, found.end()):
                pieces.append(" ")
            end = found.end()
        return "".join([*pieces, text[end:]]) if pieces else text


def as_written(name: str) -> str:
    """A name as it must stand in a prompt, where bare brackets would change the weight of a text."""
    return re.sub(r"([()\[\]])", r"\\\1", name)


def mentioned_names(texts: Iterable[str], names: Iterable[str]) -> list[str]:
    """Those names that are in a text as words of their own.

    A name inside a longer one, such as ``s1`` in ``s1@B``, is not meant. Brackets may be escaped in the texts, and
    capitals and the number of spaces make no difference, as for the tokenizer.

    Args:
        texts: prompts.
        names: any number; most of them may be in none of the texts.
    """
    text = "\n".join(_plain(part.replace("\\", "")) for part in texts)
    inside = {name: plain for name, plain in ((name, _plain(name)) for name in names) if plain and plain in text}
    if not inside:
        return []
    found = set(re.findall("|".join(map(_as_word, sorted(set(inside.values()), key=len, reverse=True))), text))
    return [name for name, plain in inside.items() if plain in found]


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _as_word(name: str) -> str:
    before = r"(?<![^\W_])" if name[0].isalnum() else ""
    after = r"(?![^\W_])" if name[-1].isalnum() else ""
    return before + re.escape(name) + after


def _is_mark(letter: str) -> bool:
    return not letter.isalnum() and not letter.isspace()


def _touch(text: str, at: int) -> bool:
    """Whether punctuation stands on both sides of a position."""
    return 0 < at < len(text) and _is_mark(text[at - 1]) and _is_mark(text[at])
