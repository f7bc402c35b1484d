"""The bundles to fuse: what is read from each file, and why some cannot be fused."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lib_pivotal.core.bundle.file import Bundle, open_bundle, read_bundle
from lib_pivotal.core.bundle.inspection import family_of
from lib_pivotal.core.bundle.metadata import bundled_core_tags
from lib_pivotal.core.bundle.names import Tokenizer, token_key
from lib_pivotal.core.bundle.nested_names import nested_names
from lib_pivotal.core.errors import BundleError, ConfigError, Problem
from lib_pivotal.core.families import FAMILIES, family_of_metadata
from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.core.lora.lora import Lora
from lib_pivotal.core.ports import DiffusionModel
from lib_pivotal.core.printable import printable

__all__ = ["FuseSource", "check_sources", "model_problems", "read_sources", "trained_clip_skip"]

_CLIP_SKIPS = ("1", "2", "3", "4")
_RANK_OF_OTHERS = 32
"""What a layer of another kind than LoRA adds to the rank of the result; how much it loses is in the report."""


@dataclass(frozen=True)
class FuseSource:
    """A bundle to fuse.

    Attributes:
        path: the file.
        bundle: its contents.
        adapters: its LoRA on the model's layers: part → adapters.
        core_tags: name → its core tags, if the file says.
    """

    path: Path
    bundle: Bundle
    adapters: dict[str, AdapterSet]
    core_tags: dict[str, list[str]]

    @property
    def names(self) -> list[str]:
        """The names of its embeddings."""
        return list(self.bundle.embeddings)

    def delta(self, key: str) -> torch.Tensor | None:
        """The change of a layer's weight, fp32, in the weight's shape; None if it has none.

        Args:
            key: of the layer, see ``ports.LoraTarget``.
        """
        layers = (layer for part in self.adapters.values() for layer in part.layers if layer.target.key == key)
        layer = next(layers, None)
        return None if layer is None else layer.adapter.delta(layer.parameters, layer.target.module)

    def ranks(self) -> dict[str, int]:
        """What each layer adds to the rank of the result: key → rank."""
        return {
            layer.target.key: layer.adapter.rank if isinstance(layer.adapter, Lora) else _RANK_OF_OTHERS
            for part in self.adapters.values()
            for layer in part.layers
        }


def read_sources(paths: Sequence[Path], model: DiffusionModel) -> tuple[list[FuseSource], list[Problem]]:
    """Read the bundles and fit their LoRAs to the model; also returns warnings.

    Args:
        paths: at least one bundle.
        model: the model that they were trained on.

    Raises:
        BundleError: a file cannot be read, or its LoRA is of a kind that cannot be fused or does not fit the model.
        ConfigError: see :func:`check_sources`.
    """
    bundles = [read_bundle(path) for path in paths]
    problems = check_sources(paths, bundles, model.family, model.text_encoders[0].tokenize)
    if any(problem.is_error for problem in problems):
        raise ConfigError(problems)
    targets = model.lora_targets()
    parts = dict.fromkeys(target.part for target in targets)
    sources = []
    for path, bundle in zip(paths, bundles, strict=True):
        adapters = {part: AdapterSet.from_state(part, targets, bundle.lora, model.device) for part in parts}
        _require_all(path, bundle, adapters.values())
        used = {part: adapter for part, adapter in adapters.items() if adapter.layers}
        sources.append(FuseSource(path, bundle, used, bundled_core_tags(bundle.metadata)))
    if not any(source.adapters for source in sources):
        text = "None of the bundles has a LoRA, so there is nothing to fuse."
        raise BundleError(text, hint="Merge their embeddings instead.")
    return sources, problems


def trained_clip_skip(paths: Sequence[Path]) -> int:
    """The clip skip that bundles were trained with; 1 if they do not say.

    Args:
        paths: the bundles.

    Raises:
        BundleError: a file cannot be read, or two were trained with different ones.
    """
    found: dict[int, str] = {}
    for path in paths:
        with open_bundle(path) as file:
            text = file.metadata.get("ss_clip_skip", "")
        if text in _CLIP_SKIPS:
            found.setdefault(int(text), printable(path.name))
    if len(found) > 1:
        trained = " and ".join(f"{name} with clip skip {number}" for number, name in found.items())
        raise BundleError(f"{trained} cannot be fused.", hint="Fuse bundles that are used with the same clip skip.")
    return next(iter(found), 1)


def model_problems(sources: Sequence[FuseSource], model: DiffusionModel) -> list[Problem]:
    """Warn about bundles that say that they were trained on another checkpoint."""
    problems = []
    for source in sources:
        hash_key, name_key = "ss_new_sd_model_hash", "ss_sd_model_name"
        trained = source.bundle.metadata.get(hash_key, "")
        if trained and model.model_hash and trained != model.model_hash:
            name = printable(source.bundle.metadata.get(name_key, "another checkpoint"))
            text = f"It was trained on {name} and fused on {printable(model.model_name)}."
            problems.append(Problem(printable(source.path.name), "warning", text, "Use the bundle on the latter."))
    return problems


def _require_all(path: Path, bundle: Bundle, adapters: Iterable[AdapterSet]) -> None:
    """Check that nothing in a LoRA is left out.

    Raises:
        BundleError: something is, or its values are not finite.
    """
    name = printable(path.name)
    known = {key for part in adapters for key in part.state_dict()}
    rest = sorted(bundle.lora.keys() - known)
    if rest:
        text = f"The LoRA of {name} has a part that cannot be fused: {printable(rest[0])}."
        hint = "LoRA, LoCon, LoHa, full LoKr and DoRA per input can be, for layers that the model has."
        raise BundleError(text, hint=hint)
    if not all(bool(value.isfinite().all()) for value in bundle.lora.values()):
        raise BundleError(f"The LoRA of {name} has NaN or infinite values.", hint="Choose another file.")


def check_sources(
    paths: Sequence[Path], bundles: Sequence[Bundle], family: str, tokenizer: Tokenizer | None
) -> list[Problem]:
    """Why bundles cannot be fused, or what to know about it: their families, names and vectors.

    Args:
        paths: their files, for messages.
        bundles: their contents.
        family: family of the model, see ``core.families``.
        tokenizer: text → token ids; None skips the check for names within names.
    """
    problems: list[Problem] = []
    first: dict[str, tuple[str, int]] = {}
    files = [printable(path.name) for path in paths]
    for number, (file, bundle) in enumerate(zip(files, bundles, strict=True)):
        problems += _misfits(file, bundle, family)
        for name in bundle.embeddings:
            other, owner = first.setdefault(token_key(name), (name, number))
            if owner != number:
                text = f"{files[owner]} and {file} both have the name {printable(other)}."
                problems.append(Problem(printable(name), "error", text, "Rename it in one of them."))
            elif other != name:
                text = f"{printable(other)} and {printable(name)} are the same name to the tokenizer."
                problems.append(Problem(file, "error", text, "Rename one of them."))
    if tokenizer is not None:
        names = [name for bundle in bundles for name in bundle.embeddings]
        nested = nested_names(names, {index: tuple(tokenizer(name)) for index, name in enumerate(names)})
        problems += [Problem("names", problem.severity, problem.message, problem.hint) for problem in nested]
    return problems


def _misfits(file: str, bundle: Bundle, family: str) -> list[Problem]:
    title = FAMILIES[family].title
    if not bundle.embeddings:
        text = "It has no embeddings, so nothing says when its LoRA is meant."
        return [Problem(file, "error", text, "Choose a bundle, or pack embeddings into this LoRA.")]
    said = family_of_metadata(bundle.metadata)
    found = {said.title} if said is not None else {family_of(item) for item in bundle.embeddings.values()}
    if found != {title}:
        text = f"It is for {', '.join(sorted(found))}, and the model is {title}."
        return [Problem(file, "error", text, "Choose another model, or leave it out.")]
    broken = [
        name
        for name, encoders in bundle.embeddings.items()
        if not all(math.isfinite(float(vectors.sum())) for vectors in encoders.values())
    ]
    if broken:
        return [Problem(file, "error", f"The embedding {printable(broken[0])} has NaN values.", "Choose another file.")]
    return []
