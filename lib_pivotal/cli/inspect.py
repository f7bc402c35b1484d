"""The output of ``inspect``: what a file is and what it contains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lib_pivotal.core.printable import printable, printable_json

__all__ = ["render"]

_MAX_SHOWN_LENGTH = 100


def render(description: dict[str, Any], *, as_json: bool) -> str:
    """A description as readable text or as JSON; always printable, whatever is in the file.

    Args:
        description: see ``core.bundle.inspection.describe``.
        as_json: return complete JSON.
    """
    if as_json:
        return printable_json(description)
    family = f", for {description['family']}" if description["family"] else ""
    lines = [printable(description["file"], None), f"{printable(description['kind'])}{family}", ""]
    lines += ["LoRA", *_lora_lines(description["lora"]), "", "Embeddings", *_embedding_lines(description)]
    if description["unknown_keys"]:
        shown = (f"  {printable(key)}" for key in description["unknown_keys"])
        lines += ["", "Keys that look like embeddings but are not used", *shown]
    if description["problems"]:
        lines += ["", "Problems", *(f"  {printable(problem, None)}" for problem in description["problems"])]
    metadata = sorted(description["metadata"].items())
    lines += ["", "Metadata"]
    lines += [f"  {printable(key)}: {_short(value)}" for key, value in metadata] or ["  none"]
    return "\n".join(lines)


def _lora_lines(lora: Mapping[str, Any]) -> list[str]:
    if not lora["layers"]:
        return ["  none"]
    lines = [f"  {kind['kind']}, {_layers(kind['layers'])}; read by {kind['read_by']}" for kind in lora["kinds"]]
    lines.append("  " + ", ".join(f"{_layers(count)} in the {part}" for part, count in lora["parts"].items()))
    if lora["ranks"]:
        lines.append("  " + ", ".join(f"rank {rank} on {_layers(count)}" for rank, count in lora["ranks"].items()))
    alphas = ", ".join(f"{alpha:g}" for alpha in lora["alphas"])
    return [*lines, f"  alpha {alphas or 'not stored'}", f"  keys like {printable(lora['keys'][0], _MAX_SHOWN_LENGTH)}"]


def _layers(count: int) -> str:
    return f"{count} layer{'s' if count != 1 else ''}"


def _embedding_lines(description: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, encoders in description["embeddings"].items():
        shown = printable(name)
        lines.append(f"  {shown}: {description['families'][name]}, hash {description['hashes'][name]}")
        for encoder, facts in encoders.items():
            norms = ", ".join(f"{norm:.3f}" for norm in facts["norms"])
            lines.append(f"  {shown} ({encoder}): {facts['vectors']} × {facts['width']}, norms {norms}")
        if name in description["core_tags"]:
            tags = ", ".join(printable(tag) for tag in description["core_tags"][name])
            lines.append(f"  {shown}: core tags {tags}")
    return lines or ["  none"]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= _MAX_SHOWN_LENGTH:
        return printable(text, None)
    return f"{printable(text, _MAX_SHOWN_LENGTH)} ({len(text)} characters)"
