"""``inspect``: what a bundle or LoRA file holds, as text."""

from __future__ import annotations

import json
from typing import Any

from lib_pivotal.core.bundle.intake import shown_name

__all__ = ["render"]

_LONGEST_SHOWN = 100


def render(description: dict[str, Any], *, as_json: bool) -> str:
    """A description as text for people or as JSON."""
    if as_json:
        return json.dumps(description, indent=2, ensure_ascii=False)
    lora = description["lora"]
    lines = [description["file"], "", "LoRA"]
    if lora["layers"]:
        ranks = ", ".join(f"rank {rank} on {count} layers" for rank, count in lora["ranks"].items())
        parts = ", ".join(f"{count} in the {part}" for part, count in lora["parts"].items())
        alphas = ", ".join(f"{alpha:g}" for alpha in lora["alphas"])
        lines += [f"  {ranks} ({parts})", f"  alpha {alphas or 'not stored'}", f"  keys like {lora['keys'][0]}"]
    else:
        lines.append("  none")
    lines += ["", "Embeddings"]
    for name, encoders in description["embeddings"].items():
        shown = shown_name(name)
        lines.append(f"  {shown}: {description['families'][name]}, hash {description['hashes'][name]}")
        for encoder, facts in encoders.items():
            norms = ", ".join(f"{norm:.3f}" for norm in facts["norms"])
            lines.append(f"  {shown} ({encoder}): {facts['vectors']} × {facts['width']}, norms {norms}")
    if not description["embeddings"]:
        lines.append("  none")
    if description["unknown_keys"]:
        lines += [
            "",
            "Keys that look like embeddings but are none",
            *(f"  {shown_name(key)}" for key in description["unknown_keys"]),
        ]
    if description["problems"]:
        lines += ["", "Problems", *(f"  {problem}" for problem in description["problems"])]
    lines += ["", "Metadata"]
    lines += [f"  {key}: {_short(value)}" for key, value in sorted(description["metadata"].items())] or ["  none"]
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}… ({len(text)} characters)"
