"""Describes what a file is and contains, and finds everything that is wrong with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.bundle.embedding_file import parse_embedding_file
from lib_pivotal.core.bundle.embeddings import BundledEmbedding, BundledEmbeddings, parse_tensor_file
from lib_pivotal.core.bundle.file import open_bundle
from lib_pivotal.core.bundle.forge_limit import check_key_count
from lib_pivotal.core.bundle.metadata import BUNDLE_KEY, bundled_core_tags
from lib_pivotal.core.bundle.names import Tokenizer, as_warnings, name_problems
from lib_pivotal.core.bundle.network_check import alpha_of, check_network
from lib_pivotal.core.bundle.network_family import family_of_network
from lib_pivotal.core.bundle.network_kind import ALL_WEBUIS, Network, find_network, other_subject
from lib_pivotal.core.bundle.tensor_file import TensorFile
from lib_pivotal.core.errors import BundleError, Problem
from lib_pivotal.core.families import family_of_metadata, family_of_widths
from lib_pivotal.core.printable import printable

__all__ = ["describe", "family_of", "is_not_a_lora", "verify"]

_LONG_VECTOR = 10.0
"""CLIP's own token vectors have norms of about 0.4."""
_PROPER_FOLDERS = {
    "a checkpoint": "Move it to the checkpoint folder (models/Stable-diffusion).",
    "a VAE": "Move it to the VAE folder (models/VAE).",
    "a ControlNet": "Move it to the folder for ControlNet models.",
}


def family_of(encoders: Mapping[str, torch.Tensor]) -> str:
    """The model family that vectors are for, or their widths if no family fits.

    Args:
        encoders: encoder → vectors, shape ``(n, width)``.
    """
    widths = {encoder: int(vectors.shape[1]) for encoder, vectors in sorted(encoders.items())}
    return family_of_widths(widths.values()) or " + ".join(f"{encoder} {width}" for encoder, width in widths.items())


class _Contents:
    """An open file, sorted into embeddings and the layers of a network."""

    def __init__(self, file: TensorFile, path: Path) -> None:
        self.file = file
        self.found = parse_tensor_file(file)
        self.network = find_network(file.entries.keys() - self.found.keys)
        self.subject = "" if self.network.modules else other_subject(self.network.others)
        self.is_embedding_file = False
        if not (self.network.modules or self.found.keys or self.subject):
            alone = parse_embedding_file(file, path)
            if alone.embeddings:
                self.found, self.network, self.is_embedding_file = alone, Network(), True
        self.family = family_of_network(self.network, file.entries)

    @property
    def title(self) -> str:
        """What the file is."""
        kinds = Counter(item.title(self.file.entries) for item in self.network.modules)
        if "LoCon" in kinds:
            kinds["LoCon"] += kinds.pop("LoRA", 0)
        parts = [kind for kind, _ in kinds.most_common()]
        if self.is_embedding_file:
            return "embedding file"
        if self.found.keys:
            parts.append("embeddings")
        return " + ".join(parts) or self.subject.partition(" ")[2] or "unknown"


def describe(path: Path) -> dict[str, Any]:
    """Describe the contents of a file as plain values.

    Raises:
        BundleError: the file is missing or is not a safetensors file; the message says what it is.
    """
    with open_bundle(path) as file:
        contents = _Contents(file, path)
        found = contents.found
        return {
            "file": str(path),
            "kind": contents.title,
            "family": contents.family,
            "lora": _describe_network(file, contents.network),
            "embeddings": {name: _encoders(item) for name, item in found.embeddings.items()},
            "families": {name: family_of(item.encoders) for name, item in found.embeddings.items()},
            "hashes": {name: item.hash for name, item in found.embeddings.items()},
            "core_tags": {
                name: tags for name, tags in bundled_core_tags(file.metadata).items() if name in found.embeddings
            },
            "unknown_keys": sorted(found.unused),
            "problems": [str(problem) for problem in found.problems],
            "metadata": {key: _parsed(value) if key == BUNDLE_KEY else value for key, value in file.metadata.items()},
        }


def _describe_network(file: TensorFile, network: Network) -> dict[str, Any]:
    ranks = Counter(rank for rank in (item.rank(file.entries) for item in network.modules) if rank is not None)
    alphas = {alpha for alpha in (alpha_of(file, item) for item in network.modules) if alpha is not None}
    kinds = Counter((item.title(file.entries), item.read_by(file.entries)) for item in network.modules)
    return {
        "layers": len(network.modules),
        "kinds": [{"kind": kind, "layers": count, "read_by": read_by} for (kind, read_by), count in kinds.items()],
        "ranks": {str(rank): count for rank, count in sorted(ranks.items())},
        "alphas": sorted(alphas, key=str),
        "parts": dict(Counter(item.part for item in network.modules)),
        "keys": sorted([key for item in network.modules for key in item.keys.values()] + network.others),
    }


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


def is_not_a_lora(file: TensorFile, path: Path) -> Problem | None:
    """The problem if a file is known not to be a LoRA, so that embeddings must not be packed into it.

    Args:
        file: the open file.
        path: its path, for the message.
    """
    contents = _Contents(file, path)
    subject = "an embedding file" if contents.is_embedding_file else contents.subject
    if not subject:
        return None
    return _wrong_file(path, subject)


def _wrong_file(path: Path, subject: str) -> Problem:
    hint = _PROPER_FOLDERS.get(subject, "Choose a LoRA or a bundle.")
    return Problem(printable(path.name), "error", f"It is {subject}, not a LoRA.", hint)


def verify(path: Path, *, tokenizer: Tokenizer | None = None) -> list[Problem]:
    """Find everything that is wrong with a file or will fail on some host. Weights are read piece by piece.

    Args:
        path: bundle or LoRA file.
        tokenizer: text → token ids, to check how names work in prompts.
    """
    shown = printable(path.name)
    try:
        with open_bundle(path) as file:
            contents = _Contents(file, path)
            problems = [Problem(shown, "error", text, "Other programs reject the file.") for text in file.faults]
            if contents.subject:
                return [*problems, _wrong_file(path, contents.subject)]
            problems += check_network(file, contents.network)
    except BundleError as error:
        return [Problem(shown, "error", error.message, error.hint)]
    return problems + _bundle_problems(shown, contents, tokenizer)


def _bundle_problems(shown: str, contents: _Contents, tokenizer: Tokenizer | None) -> list[Problem]:
    """Problems with embeddings, metadata and how they fit together."""
    found, network = contents.found, contents.network
    problems = list(found.problems)
    if contents.is_embedding_file:
        problems.append(Problem(shown, "warning", "It contains no LoRA: it is an embedding file.", ""))
    else:
        # A badly chosen name still works: in a finished file, only breaking the loader's rules is an error.
        problems += as_warnings(name_problems(found.embeddings, tokenizer))
        problems += _same_runs(found, tokenizer)
        if not network.modules:
            text = "It contains no LoRA." + (" Its keys are of an unknown kind." if network.others else "")
            problems.append(Problem(shown, "warning", text, "" if found.keys else "Check where it comes from."))
    problems += _reader_problems(contents)
    problems += check_key_count(shown, len(found.keys))
    return problems + _contradictions(shown, contents, found)


def _same_runs(found: BundledEmbeddings, tokenizer: Tokenizer | None) -> list[Problem]:
    """Names that are different as texts and the same token ids to the loaded model."""
    if tokenizer is None:
        return []
    first: dict[tuple[int, ...], str] = {}
    problems = []
    for name in found.embeddings:
        other = first.setdefault(tuple(tokenizer(name)), name)
        if other != name:
            text = f"'{printable(other)}' and '{printable(name)}' are the same name to the tokenizer."
            problems.append(Problem(printable(name), "error", text, "Only the first one works; rename the other."))
    return problems


def _reader_problems(contents: _Contents) -> list[Problem]:
    """Report kinds of LoRA that some or all webuis cannot use."""
    entries = contents.file.entries
    kinds = {(item.title(entries), item.read_by(entries)) for item in contents.network.modules if item.is_whole}
    problems = []
    for kind, read_by in sorted(kinds):
        if "no webui" in read_by:
            problems.append(Problem(kind, "error", f"It is read by {read_by}.", "Convert it to the kohya format."))
        elif read_by != ALL_WEBUIS:
            problems.append(Problem(kind, "warning", f"It is read by {read_by}.", ""))
    return problems


def _contradictions(shown: str, contents: _Contents, found: BundledEmbeddings) -> list[Problem]:
    problems = []
    metadata = contents.file.metadata
    trained_on = family_of_metadata(metadata)
    said = trained_on.title if trained_on is not None else ""
    if said and contents.family not in ("", said):
        text = f"Its LoRA is for {contents.family}, and its metadata says that it is for {said}."
        problems.append(Problem(shown, "warning", text, "The webui hides its card or shows it for the wrong models."))
    own = _parsed(metadata.get(BUNDLE_KEY, "{}"))
    facts = own.get("embeddings") if isinstance(own, dict) else None
    for name, item in found.embeddings.items():
        field, family = printable(name), family_of(item.encoders)
        for source, other in (("its metadata says that it is", said), ("its LoRA is", contents.family)):
            if other and family != other:
                text = f"Its vectors are for {family}, and {source} for {other}."
                problems.append(Problem(field, "warning", text, ""))
                break
        longest = max(float(vectors.norm(dim=1).max()) for vectors in item.encoders.values())
        if longest > _LONG_VECTOR:
            text = f"It has vectors of length {longest:.3g}, while ordinary words have about 0.4."
            hint = "Images may look overcooked; lower its weight: (name:0.5)."
            problems.append(Problem(field, "warning", text, hint))
        fact = facts.get(name) if isinstance(facts, dict) else None
        digest = fact.get("sha256") if isinstance(fact, dict) else None
        if isinstance(digest, str) and not digest.startswith(item.hash):
            text = "Its vectors do not match the file's metadata."
            problems.append(Problem(field, "warning", text, "The file was modified; check where it comes from."))
    return problems
