"""What a bundle or LoRA file holds, and everything that is wrong with it; the LoRA's weights are not read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.bundle.embeddings import BundledEmbedding, BundledEmbeddings, parse_tensor_file
from lib_pivotal.core.bundle.metadata import BUNDLE_KEY
from lib_pivotal.core.bundle.tensor_file import TensorFile, Unreadable
from lib_pivotal.core.bundle.tools_output import Tokenizer, name_problems, opened
from lib_pivotal.core.errors import BundleError, Problem
from lib_pivotal.core.families import family_of_metadata

__all__ = ["MOST_KEYS_ON_FORGE", "describe", "family_of", "verify"]

MOST_KEYS_ON_FORGE = 12
"""Host: backend/patcher/lora.py and modules_forge of Forge and old Forge: more unknown keys, and no LoRA at all."""
_FAMILIES = {
    (("clip_l", 768),): "SD1",
    (("clip_l", 1024),): "SD2",
    (("clip_g", 1280), ("clip_l", 768)): "SDXL",
    (("clip_g", 1280),): "SDXL refiner",
}
_LONG_VECTOR = 10.0
"""CLIP's own words have lengths of about 0.4."""


def family_of(encoders: Mapping[str, torch.Tensor]) -> str:
    """The family of models that vectors of these widths are for, or the widths where there is none."""
    widths = tuple(sorted((encoder, int(vectors.shape[1])) for encoder, vectors in encoders.items()))
    return _FAMILIES.get(widths, " + ".join(f"{encoder} {width}" for encoder, width in widths))


def describe(path: Path) -> dict[str, Any]:
    """Contents of a file as plain values.

    Raises:
        BundleError: the file is missing or no safetensors file.
    """
    with opened(path) as file:
        found = parse_tensor_file(file)
        lora = [key for key in file.entries if key not in found.keys]
        downs = [key for key in lora if key.endswith(".lora_down.weight") and file.entries[key].shape]
        ranks = Counter(file.entries[key].shape[0] for key in downs)
        parts = Counter("text encoder" if key.startswith("lora_te") else "unet" for key in downs)
        return {
            "file": str(path),
            "lora": {
                "layers": sum(ranks.values()),
                "ranks": {str(rank): count for rank, count in sorted(ranks.items())},
                "alphas": _alphas(file, lora),
                "parts": dict(parts),
                "keys": sorted(lora),
            },
            "embeddings": {name: _encoders(item) for name, item in found.embeddings.items()},
            "families": {name: family_of(item.encoders) for name, item in found.embeddings.items()},
            "hashes": {name: item.hash for name, item in found.embeddings.items()},
            "unknown_keys": sorted(found.unused),
            "problems": [str(problem) for problem in found.problems],
            "metadata": {key: _parsed(value) if key == BUNDLE_KEY else value for key, value in file.metadata.items()},
        }


def _alphas(file: TensorFile, lora: list[str]) -> list[float]:
    alphas = set()
    for key in lora:
        if key.endswith(".alpha") and file.entries[key].shape in ((), (1,)):
            try:
                alphas.add(float(file.read(key)))
            except (Unreadable, RuntimeError):
                # A type that this torch does not know says nothing of the file.
                continue
    return sorted(alphas)


def _encoders(item: BundledEmbedding) -> dict[str, Any]:
    return {
        encoder: {
            "vectors": int(vectors.shape[0]),
            "width": int(vectors.shape[1]),
            "norms": [round(float(norm), 4) for norm in vectors.norm(dim=1)],
        }
        for encoder, vectors in item.encoders.items()
    }


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def verify(path: Path, *, tokenizer: Tokenizer | None = None) -> list[Problem]:
    """Everything that is wrong with a file, or would be on some host.

    Args:
        path: bundle or LoRA.
        tokenizer: token ids of a text, to see what names would do in prompts.
    """
    try:
        with opened(path) as file:
            found = parse_tensor_file(file)
            metadata = file.metadata
            has_lora = bool(file.entries.keys() - found.keys)
    except BundleError as error:
        return [Problem(path.name, "error", error.message, error.hint)]
    # A name that is bad style works all the same: only the loader's own rules are errors in a finished file.
    problems = [Problem(p.field, "warning", p.message, p.hint) for p in name_problems(found.embeddings, tokenizer)]
    problems = found.problems + problems
    if not has_lora:
        problems.append(Problem(path.name, "warning", "There is no LoRA in it.", "It may be an embedding file."))
    if len(found.keys) > MOST_KEYS_ON_FORGE:
        text = f"It has {len(found.keys)} embedding tensors; Forge without us drops a LoRA with over 12 unknown ones."
        problems.append(Problem(path.name, "warning", text, "Split it for such people."))
    return problems + _vector_problems(found, metadata)


def _vector_problems(found: BundledEmbeddings, metadata: Mapping[str, str]) -> list[Problem]:
    problems = []
    trained_on = family_of_metadata(metadata)
    said = trained_on.title if trained_on is not None else ""
    own = _parsed(metadata.get(BUNDLE_KEY, "{}"))
    facts = own.get("embeddings") if isinstance(own, dict) else None
    for name, item in found.embeddings.items():
        family = family_of(item.encoders)
        if said and family != said:
            text = f"Its vectors are for {family}, and the file says that it is for {said}."
            problems.append(Problem(name, "warning", text, ""))
        longest = max(float(vectors.norm(dim=1).max()) for vectors in item.encoders.values())
        if longest > _LONG_VECTOR:
            text = f"It has vectors of length {longest:.3g}, where ordinary words have about 0.4."
            problems.append(Problem(name, "warning", text, "Pictures may be burnt; lower its weight: (name:0.5)."))
        fact = facts.get(name) if isinstance(facts, dict) else None
        digest = fact.get("sha256") if isinstance(fact, dict) else None
        if isinstance(digest, str) and not digest.startswith(item.hash):
            text = "Its vectors are not the ones that the file's metadata tells of."
            problems.append(Problem(name, "warning", text, "Somebody changed it; ask where it comes from."))
    return problems
