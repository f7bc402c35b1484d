"""Decides which names may be used in prompts, how they are written there, and which names a prompt mentions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lib_pivotal.core.bundle.names import token_key
from lib_pivotal.core.families import COMMON_TOKENS_BELOW

__all__ = ["PunctuationPadding", "as_written", "mentioned_names", "why_unusable"]

_SPECIAL = re.compile(r"<\|(startoftext|endoftext)\|>", re.IGNORECASE)


def why_unusable(name: str, ids: Sequence[int], *, is_chosen: bool = False) -> str:
    """Why a name must not be used in prompts; an empty string if it may.

    Args:
        name: as typed in a prompt.
        ids: its token ids without start and end tokens.
        is_chosen: whether the user chose this name, so that a common word is allowed.
    """
    if not name.strip() or not ids:
        return "the name has no tokens"
    if _SPECIAL.search(name):
        return "the name contains a special token"
    if all(not letter.isalnum() and letter.isascii() for letter in name):
        return "the name is only punctuation, which every prompt contains"
    if len(ids) == 1 and ids[0] < COMMON_TOKENS_BELOW and not is_chosen:
        return "the name is a common word, and every prompt with that word would change"
    return ""


class PunctuationPadding:
    """Puts spaces between names and the punctuation around them.

    The tokenizer joins neighboring punctuation into one token, so ``<s0>,`` would not contain the tokens of ``<s0>``.
    It ignores spaces. Texts without such punctuation are not changed.

    Args:
        names: all active names, including qualified ones.
    """

    def __init__(self, names: Iterable[str]) -> None:
        # The pattern contains all names, longest first, so that a short name inside a longer one does not match.
        ordered = sorted({name for name in names if name.strip()}, key=len, reverse=True)
        has_edges = any(_is_mark(name[0]) or _is_mark(name[-1]) for name in ordered)
        parts = (r"\s+".join(re.escape(word) for word in name.split()) for name in ordered)
        self._pattern = re.compile("|".join(parts), re.IGNORECASE) if has_edges else None

    def __call__(self, text: str) -> str:
        """The text with spaces inserted where needed."""
        if self._pattern is None:
            return text
        pieces, end = [], 0
        for found in self._pattern.finditer(text):
            pieces.append(text[end : found.start()])
            # Right after another name there is already a space.
            if _touch(text, found.start()) and (found.start() > end or end == 0):
                pieces.append(" ")
            pieces.append(found.group())
            if _touch(text, found.end()):
                pieces.append(" ")
            end = found.end()
        return "".join([*pieces, text[end:]]) if pieces else text


def as_written(name: str) -> str:
    """Escape brackets in a name for a prompt, where they would change the weight of the text in them."""
    return re.sub(r"([()\[\]])", r"\\\1", name)


def mentioned_names(texts: Iterable[str], names: Iterable[str]) -> list[str]:
    """The names that occur in any text as separate words.

    A name inside a longer one, such as ``s1`` in ``s1@B``, does not count. Brackets may be escaped in the texts.
    Letters and spaces are compared as in the tokenizer.

    Args:
        texts: prompts.
        names: names to look for; there may be very many.
    """
    text = "\n".join(token_key(part.replace("\\", "")) for part in texts)
    inside = {name: key for name, key in ((name, token_key(name)) for name in names) if key and key in text}
    if not inside:
        return []
    found = set(re.findall("|".join(map(_as_word, sorted(set(inside.values()), key=len, reverse=True))), text))
    return [name for name, key in inside.items() if key in found]


def _as_word(key: str) -> str:
    before = r"(?<![^\W_])" if key[0].isalnum() else ""
    after = r"(?![^\W_])" if key[-1].isalnum() else ""
    return before + re.escape(key) + after


def _is_mark(letter: str) -> bool:
    return not letter.isalnum() and not letter.isspace()


def _touch(text: str, at: int) -> bool:
    """Whether there is punctuation on both sides of a position."""
    return 0 < at < len(text) and _is_mark(text[at - 1]) and _is_mark(text[at])
