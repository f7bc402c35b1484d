"""``inspect``: what a bundle or LoRA file holds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.metadata import BUNDLE_KEY

__all__ = ["describe", "render"]

_LONGEST_SHOWN = 100


def describe(path: Path) -> dict[str, Any]:
    """Contents of a file as plain values.

    Raises:
        BundleError: the file is missing or no safetensors file.
    """
    bundle = read_bundle(path)
    ranks = Counter(int(value.shape[0]) for key, value in bundle.lora.items() if key.endswith(".lora_down.weight"))
    alphas = sorted({float(value) for key, value in bundle.lora.items() if key.endswith(".alpha")})
    parts = Counter(
        "text encoder" if key.startswith("lora_te") else "unet"
        for key in bundle.lora
        if key.endswith(".lora_down.weight")
    )
    embeddings = {
        name: {
            encoder: {
                "vectors": int(vectors.shape[0]),
                "width": int(vectors.shape[1]),
                "norms": [round(float(norm), 4) for norm in vectors.float().norm(dim=1)],
            }
            for encoder, vectors in encoders.items()
        }
        for name, encoders in bundle.embeddings.items()
    }
    return {
        "file": str(path),
        "lora": {
            "layers": sum(ranks.values()),
            "ranks": {str(rank): count for rank, count in sorted(ranks.items())},
            "alphas": alphas,
            "parts": dict(parts),
            "keys": sorted(bundle.lora),
        },
        "embeddings": embeddings,
        "unknown_keys": sorted(bundle.unknown_keys),
        "metadata": {key: _parsed(value) if key == BUNDLE_KEY else value for key, value in bundle.metadata.items()},
    }


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


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
        for encoder, facts in encoders.items():
            norms = ", ".join(f"{norm:.3f}" for norm in facts["norms"])
            lines.append(f"  {name} ({encoder}): {facts['vectors']} × {facts['width']}, norms {norms}")
    if not description["embeddings"]:
        lines.append("  none")
    if description["unknown_keys"]:
        lines += [
            "",
            "Keys that look like embeddings but are none",
            *(f"  {key}" for key in description["unknown_keys"]),
        ]
    lines += ["", "Metadata"]
    lines += [f"  {key}: {_short(value)}" for key, value in sorted(description["metadata"].items())] or ["  none"]
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}… ({len(text)} characters)"
