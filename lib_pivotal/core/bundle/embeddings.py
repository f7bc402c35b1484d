"""Embeddings of any bundle, whoever wrote it: read lazily, checked, and brought to one form.

Nothing that a file holds makes this module raise: what cannot be used becomes a problem for the user to read, and
everything else in the file stays usable.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from lib_pivotal.core.bundle.metadata import embedding_hash
from lib_pivotal.core.errors import Problem

__all__ = [
    "BundledEmbedding",
    "BundledEmbeddings",
    "has_embeddings",
    "paired_files",
    "parse_embeddings",
    "read_embeddings",
]

PREFIX = "bundle_emb."
MOST_EMBEDDINGS = 256
MOST_BYTES = 64 * 2**20
MOST_VECTORS = 75
"""A prompt's chunk has no more places."""
LONGEST_NAME = 100
LARGEST_VALUE = 1e4
_SHOWN = 60

_INPUT = {"emb_params": "", "clip_l": "clip_l", "clip_g": "clip_g"}
"""Ends of a key → encoder; empty where the file does not say which."""
_OTHER = {
    "clip_l_out": "an output embedding, which no webui uses",
    "clip_g_out": "an output embedding, which no webui uses",
    **{
        name + end: "for a text encoder that Stable Diffusion 1, 2 and XL do not have"
        for name in ("t5", "llama", "gemma")
        for end in ("", "_out")
    },
}
_SDXL_WIDTHS = (768, 1280)


@dataclass(frozen=True)
class BundledEmbedding:
    """One embedding.

    Attributes:
        name: as in the file.
        encoders: encoder name → fp32 on the CPU, contiguous, finite, shape ``(n, width)``.
        hash: 12 hex digits that depend on the values only.
        vector_count: n, 1 … 75.
    """

    name: str
    encoders: Mapping[str, torch.Tensor]
    hash: str
    vector_count: int


@dataclass(frozen=True)
class BundledEmbeddings:
    """What a file holds of embeddings.

    Attributes:
        embeddings: by name.
        problems: what could not be used, and why.
        keys: every key of the file that is about embeddings, used or not.
    """

    embeddings: dict[str, BundledEmbedding]
    problems: list[Problem]
    keys: frozenset[str]


_Fetch = Callable[[str], torch.Tensor]
_Shape = Callable[[str], Sequence[int]]


def has_embeddings(path: Path) -> bool:
    """Whether a file holds keys of embeddings; reads its header only, False for an unreadable one."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return bool(_our_keys(file.keys(), file.metadata() or {}))
    except (OSError, SafetensorError):
        return False


def read_embeddings(path: Path, *, with_paired: bool = False) -> BundledEmbeddings:
    """Embeddings of a bundle; header first, then only their own tensors.

    Args:
        path: safetensors file.
        with_paired: also those of files beside it, see :func:`paired_files`.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            found = _parse(
                list(file.keys()),
                file.metadata() or {},
                lambda key: file.get_slice(key).get_shape(),
                file.get_tensor,
            )
    except (OSError, SafetensorError) as error:
        problem = Problem(path.name, "error", f"{path.name} is no readable safetensors file.", f"({error})"[:200])
        return BundledEmbeddings({}, [problem], frozenset())
    if not with_paired:
        return found
    embeddings, problems = dict(found.embeddings), list(found.problems)
    for paired in paired_files(path):
        other = _read_paired(paired, path)
        problems += other.problems
        for name, embedding in other.embeddings.items():
            embeddings.setdefault(name, embedding)
    return BundledEmbeddings(embeddings, problems, found.keys)


def parse_embeddings(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> BundledEmbeddings:
    """The same for a file that somebody else has read, such as a host by its safe loader for ``.pt``."""
    return _parse(list(tensors), metadata, lambda key: tensors[key].shape, lambda key: tensors[key])


def paired_files(path: Path) -> list[Path]:
    """Embedding files that belong to a LoRA by their names.

    Source: diffusers' advanced dreambooth scripts write ``NAME_emb.safetensors``, OneTrainer ``NAME_embeddings/``.
    """
    beside = path.with_name(f"{path.stem}_emb.safetensors")
    folder = path.with_name(f"{path.stem}_embeddings")
    return [*([beside] if beside.is_file() else []), *sorted(folder.glob("*.safetensors"))]


def _read_paired(paired: Path, path: Path) -> BundledEmbeddings:
    """A file beside a LoRA: diffusers' has a row for each of ``<s0>``, ``<s1>``, …, others are named by the file."""
    try:
        with safe_open(str(paired), framework="pt") as file:
            keys = [key for key in file.keys() if key in _INPUT or key in _OTHER]  # noqa: SIM118  (no mapping)
            stem = path.stem if paired.parent == path.parent else paired.stem
            named = {f"{PREFIX}{stem}.{key}": key for key in keys}
            found = _parse(
                list(named),
                {},
                lambda key: file.get_slice(named[key]).get_shape(),
                lambda key: file.get_tensor(named[key]),
            )
    except (OSError, SafetensorError) as error:
        problem = Problem(paired.name, "error", f"{paired.name} is no readable safetensors file.", f"({error})"[:200])
        return BundledEmbeddings({}, [problem], frozenset())
    if paired.parent != path.parent:
        return found
    rows = {}
    for whole in found.embeddings.values():
        for number in range(whole.vector_count):
            parts = {name: value[number : number + 1].contiguous() for name, value in whole.encoders.items()}
            rows[f"<s{number}>"] = _embedding(f"<s{number}>", parts)
    return BundledEmbeddings({**found.embeddings, **rows}, found.problems, frozenset())


def _our_keys(keys: Iterable[str], metadata: Mapping[str, str]) -> list[str]:
    """Keys about embeddings, sorted, so that the order in a file makes no difference.

    Source: github.com/cloneofsimo/lora marks a tensor named by its token with the metadata value ``<embed>``.
    """
    return sorted(key for key in keys if key.startswith(PREFIX) or metadata.get(key) == "<embed>")


def _parse(keys: Sequence[str], metadata: Mapping[str, str], shape: _Shape, fetch: _Fetch) -> BundledEmbeddings:
    ours = _our_keys(keys, metadata)
    problems: list[Problem] = []
    parts: dict[str, dict[str, str]] = {}
    for key in ours:
        name, end = (key, "emb_params") if not key.startswith(PREFIX) else _split(key[len(PREFIX) :])
        complaint = _complaint(name, end)
        if complaint:
            problems.append(_problem(name or key, "warning" if end in _OTHER else "error", complaint))
        else:
            parts.setdefault(name, {}).setdefault(end, key)
    embeddings: dict[str, BundledEmbedding] = {}
    seen: dict[str, str] = {}
    total = 0
    for name, named in parts.items():
        if name.casefold() in seen:
            problems.append(_problem(name, "error", f"it is there twice, also as {seen[name.casefold()]!r}"))
            continue
        if len(embeddings) >= MOST_EMBEDDINGS:
            problems.append(_problem(name, "error", f"only {MOST_EMBEDDINGS} embeddings of a file are read"))
            break
        shapes = {end: tuple(int(side) for side in shape(key)) for end, key in named.items()}
        total += sum(4 * _product(sides) for sides in shapes.values())
        complaint = _shape_complaint(shapes) or (
            f"embeddings of a file may have {MOST_BYTES >> 20} MiB" if total > MOST_BYTES else ""
        )
        if complaint:
            problems.append(_problem(name, "error", complaint))
            continue
        made, complaint = _make(name, {end: fetch(key) for end, key in named.items()})
        if made is None:
            problems.append(_problem(name, "error", complaint))
            continue
        seen[name.casefold()] = name
        embeddings[name] = made
    return BundledEmbeddings(embeddings, problems, frozenset(ours))


def _split(rest: str) -> tuple[str, str]:
    """Name and end of a key without the prefix; read from the right, so that dots in a name do no harm."""
    for mark in (".string_to_param.", ".string_to_param:"):
        name, found, tail = rest.rpartition(mark)
        if found and tail:
            return name, "emb_params"
    name, _, end = rest.rpartition(".")
    return (name, end) if end in _INPUT or end in _OTHER else (rest, "")


def _complaint(name: str, end: str) -> str:
    """What is wrong with a key, or an empty text."""
    if not name.strip():
        return "its name is empty"
    if len(name) > LONGEST_NAME:
        return f"its name has more than {LONGEST_NAME} letters"
    # Control, format and private letters cannot be typed, and some of them turn the text around on a page.
    if any(unicodedata.category(letter)[0] == "C" for letter in name):
        return "its name has letters that cannot be typed"
    if end in _OTHER:
        return f"{end} is {_OTHER[end]}; the rest is used"
    return "" if end else "its key does not say what it is"


def _shape_complaint(shapes: Mapping[str, tuple[int, ...]]) -> str:
    for sides in shapes.values():
        if len(sides) not in (1, 2):
            return f"vectors have one or two dimensions, not {len(sides)}"
        count = sides[0] if len(sides) == 2 else 1
        if not 1 <= count <= MOST_VECTORS:
            return f"it has {count} vectors; 1 to {MOST_VECTORS} are possible"
        if not 1 <= sides[-1] <= sum(_SDXL_WIDTHS):
            return f"no model has vectors of width {sides[-1]}"
    counts = {sides[0] if len(sides) == 2 else 1 for sides in shapes.values()}
    return f"its parts have different numbers of vectors {sorted(counts)}" if len(counts) > 1 else ""


def _make(name: str, tensors: Mapping[str, torch.Tensor]) -> tuple[BundledEmbedding | None, str]:
    """The embedding, or None and why not."""
    if any(not value.is_floating_point() for value in tensors.values()):
        return None, "its values are whole numbers"
    parts: dict[str, torch.Tensor] = {}
    for end, value in tensors.items():
        table = value.detach().to("cpu", torch.float32)
        table = table.unsqueeze(0) if table.ndim == 1 else table
        if not bool(torch.isfinite(table).all()):
            return None, "it has values that are no numbers"
        if float(table.abs().max()) > LARGEST_VALUE:
            return None, f"it has values beyond {LARGEST_VALUE:g}"
        if not _INPUT[end] and table.shape[1] == sum(_SDXL_WIDTHS):
            # HCP-Diffusion writes SDXL's two halves side by side.
            first, _ = _SDXL_WIDTHS
            parts["clip_l"], parts["clip_g"] = table[:, :first].contiguous(), table[:, first:].contiguous()
        else:
            parts.setdefault(_INPUT[end] or "clip_l", table.contiguous().clone())
    return _embedding(name, parts), ""


def _embedding(name: str, parts: Mapping[str, torch.Tensor]) -> BundledEmbedding:
    count = int(next(iter(parts.values())).shape[0])
    return BundledEmbedding(name, dict(parts), embedding_hash(parts)[:12], count)


def _problem(name: str, severity: str, what: str) -> Problem:
    shown = "".join(letter if letter.isprintable() else "?" for letter in name[:_SHOWN])
    shown += "…" if len(name) > _SHOWN else ""
    return Problem(shown, severity, f"The embedding {shown!r} is not used: {what}.", "")


def _product(sides: Sequence[int]) -> int:
    result = 1
    for side in sides:
        result *= side
    return result
