"""Emphasis in captions, such as ``(red hat:1.2)``: parsed and applied as the webui does in a generation."""

from __future__ import annotations

import re

import torch

__all__ = ["parse_emphasis", "weighted"]

_UP = 1.1
_DOWN = 1 / 1.1

_MAX_DEPTH = 32
"""Brackets nested deeper than this are plain text, so that time grows with the length of a text only."""

_TOKEN = re.compile(r"\\[()\[\]\\]|[(\[\])]|:\s*([+-]?[.\d]+)\s*\)|\\|[^\\()\[\]:]+|:")


def parse_emphasis(text: str) -> list[tuple[str, float]]:
    r"""Divide a text into pieces with their weights.

    ``(a)`` weighs 1.1, ``[a]`` 1/1.1, ``(a:1.5)`` 1.5, and nested brackets multiply; ``\(`` is a bracket. A bracket
    that is never closed weighs everything after it.

    Args:
        text: a caption.

    Host: modules/prompt_parser.py, ``parse_prompt_attention``, A1111 1.6.1-1.10.1. ``BREAK`` is not special here.
    """
    pieces: list[tuple[str, float]] = []
    # Where each open bracket begins, by kind.
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def weigh_from(start: int, factor: float) -> None:
        pieces[start:] = [(piece, weight * factor) for piece, weight in pieces[start:]]

    for match in _TOKEN.finditer(text):
        token, number = match.group(), _number(match.group(1))
        if token in opened and len(opened[token]) < _MAX_DEPTH:
            opened[token].append(len(pieces))
        elif number is not None and opened["("]:
            weigh_from(opened["("].pop(), number)
        elif token == ")" and opened["("]:
            weigh_from(opened["("].pop(), _UP)
        elif token == "]" and opened["["]:
            weigh_from(opened["["].pop(), _DOWN)
        else:
            pieces.append((token[1:] if token.startswith("\\") else token, 1.0))
    for start in opened["("]:
        weigh_from(start, _UP)
    for start in opened["["]:
        weigh_from(start, _DOWN)
    return _joined(pieces) or [("", 1.0)]


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _joined(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The same pieces with neighbors of equal weight joined."""
    result: list[tuple[list[str], float]] = []
    for piece, weight in pieces:
        if result and result[-1][1] == weight:
            result[-1][0].append(piece)
        else:
            result.append(([piece], weight))
    return [("".join(texts), weight) for texts, weight in result]


def weighted(hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Multiply an encoder's output by the weight of each token, and restore the mean of each row.

    Args:
        hidden: shape ``(N, 77, width)``.
        weights: shape ``(N, 77)``; 1 for start, end and padding.

    Host: modules/sd_emphasis.py, ``EmphasisOriginal``, A1111 1.10.1 (in ``process_tokens`` of modules/sd_hijack_clip.py
        before 1.9), which gets the same chunk of one prompt at a time.
    """
    scaled = hidden * weights[:, :, None].to(hidden)
    means = (hidden.mean(dim=(1, 2), keepdim=True), scaled.mean(dim=(1, 2), keepdim=True))
    # Rows without emphasis stay exactly as they are.
    is_plain = (weights == 1.0).all(dim=1)[:, None, None].to(hidden.device)
    return torch.where(is_plain, hidden, scaled * (means[0] / means[1]))
