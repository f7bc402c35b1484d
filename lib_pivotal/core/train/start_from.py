"""Starts a new run from the weights of an earlier one: what must fit, and how they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from lib_pivotal.core.bundle.file import open_bundle, read_bundle
from lib_pivotal.core.bundle.names import token_key
from lib_pivotal.core.bundle.negative_lora import negative_path
from lib_pivotal.core.config.negative import negative_name, trained_embeddings
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.user_path import bare_path, check_path
from lib_pivotal.core.errors import BundleError, PivotalError, Problem
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.core.ports import TextEncoder
from lib_pivotal.core.printable import printable
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingTable, Layout, layout_of
from lib_pivotal.core.train.start_source import (
    StartSource,
    config_of_state,
    find_start,
    kept_in_state,
    read_source,
)
from lib_pivotal.core.train.state import read_state
from lib_pivotal.core.train.state_files import STATE_HEADER

__all__ = ["alpha_ratio", "check_start_from", "kept_names", "load_start", "with_kept"]

_FIELD = "start_from"
_KEEP = "keep_names"


def check_start_from(
    config: TrainConfig, family: str, tokenizer: Callable[[str], Sequence[int]] | None
) -> list[Problem]:
    """Why a run cannot start from what its settings name: family, names, vectors and ranks must match.

    Args:
        config: the settings.
        family: family of the model, see ``core.families``; empty if it is not known.
        tokenizer: text → token ids; None skips the check of concepts with 0 vectors.
    """
    spelling = check_path(_FIELD, bare_path(config.start_from))
    if spelling:
        return spelling
    try:
        path = find_start(config.start_from)
        source = read_source(path, tokenizer)
        return [*_misfits(source, config, family, tokenizer), *_missing_negative(path, source, config)]
    except BundleError as error:
        return [Problem(_FIELD, "error", error.message, error.hint)]


def _misfits(
    source: StartSource, config: TrainConfig, family: str, tokenizer: Callable[[str], Sequence[int]] | None
) -> list[Problem]:
    there, kind, problems = source.vectors, source.kind, []
    if family and source.families and source.families != {FAMILIES[family].title}:
        text = f"It is for {', '.join(sorted(source.families))}, and the model is {FAMILIES[family].title}."
        problems.append(Problem(_FIELD, "error", text, "Choose another one, or load another model."))
    problems += _kept_problems(there, config)
    problems += _vector_problems(source, config, tokenizer)
    left_out = sorted(there.keys() - {concept.name for concept in trained_embeddings(config.concepts)})
    if left_out and not config.keep_names:
        text = f"Embeddings of the {kind} that this run does not continue: {', '.join(map(printable, left_out[:20]))}."
        problems.append(Problem(_FIELD, "warning", text, "Add concepts with these names to continue them, too."))
    return problems + _lora_problems(source, config)


def _vector_problems(
    source: StartSource, config: TrainConfig, tokenizer: Callable[[str], Sequence[int]] | None
) -> list[Problem]:
    there, kind, problems = source.vectors, source.kind, []
    for index, concept in enumerate(config.concepts):
        if concept.name not in there:
            if not config.keep_names:
                known = ", ".join(map(printable, sorted(there)[:20])) or "none"
                hint = f'Use the same names as the {kind}, or set "Keep the other names" to add new ones to it.'
                text = f"The {kind} to start from has no embedding with this name. It has: {known}."
                problems.append(Problem(f"concepts[{index}].name", "error", text, hint))
            continue
        count = there[concept.name]
        wanted = concept.vectors or (max(1, len(tokenizer(concept.init_text))) if tokenizer is not None else count)
        if count and count != wanted:
            text = f"The {kind} to start from has {count} vectors for this concept, not {wanted}."
            problems.append(Problem(f"concepts[{index}].vectors", "error", text, f"Set it to {count}."))
        negatives = there.get(negative_name(concept.name), 0)
        if concept.negative_vectors and negatives != concept.negative_vectors:
            text = f"The {kind} to start from has {negatives} negative vectors, not {concept.negative_vectors}."
            problems.append(Problem(f"concepts[{index}].negative_vectors", "error", text, f"Set it to {negatives}."))
    return problems


def _lora_problems(source: StartSource, config: TrainConfig) -> list[Problem]:
    problems = []
    expected = {config.rank, config.conv_rank, config.text_encoder_rank} - {0}
    if source.lora_kind and expected and source.lora_kind != config.lora_kind:
        text = f"The {source.kind} to start from has a {source.lora_kind}, and the settings say {config.lora_kind}."
        problems.append(Problem("lora_kind", "error", text, f"Set it to {source.lora_kind}."))
    elif expected and source.lokr_factor not in (None, config.lokr_factor):
        factor = source.lokr_factor
        text = f"The LoKr of the {source.kind} to start from has the factor {factor}, not {config.lokr_factor}."
        problems.append(Problem("lokr_factor", "error", text, f"Set it to {factor}."))
    elif (source.lora_kind != "lokr" or not expected) and source.ranks != expected:
        shown, hint = (", ".join(map(str, sorted(numbers))) or "no LoRA" for numbers in (source.ranks, expected))
        text = f"The LoRA of the {source.kind} to start from has rank {shown}, and the settings say {hint}."
        problems.append(Problem("rank", "error", text, f"Use the same ranks as the {source.kind}."))
    return problems


def _missing_negative(path: Path, source: StartSource, config: TrainConfig) -> list[Problem]:
    expected = negative_path(path)
    if not config.negative_rank or source.kind != "bundle" or expected.is_file():
        return []
    text = f"The bundle to start from has no negative LoRA: there is no {printable(expected.name)}."
    return [Problem("negative_rank", "error", text, "Set it to 0, or put that file next to the bundle.")]


def _kept_problems(there: Mapping[str, int], config: TrainConfig) -> list[Problem]:
    """Problems of keeping the names of a file that are not trained; ``there`` has its names."""
    if not config.keep_names:
        return []
    trained = {token_key(concept.name): concept.name for concept in trained_embeddings(config.concepts)}
    kept = [name for name in there if name not in trained.values()]
    problems = [
        Problem(_KEEP, "error", f"{printable(name)} and {printable(trained[token_key(name)])} are the same name to the "
                "tokenizer.", "Rename one of them.")
        for name in kept
        if token_key(name) in trained
    ]  # fmt: skip
    if not kept:
        text = "All names that are there are trained, so there are no others to keep."
        problems.append(Problem(_KEEP, "warning", text, "Remove those concepts that should stay as they are."))
    return problems


def kept_names(config: TrainConfig, tokenizer: Callable[[str], Sequence[int]]) -> dict[str, int]:
    """The names that a new run keeps without training them → number of vectors; empty if it keeps none.

    Args:
        config: the settings, which say what to start from.
        tokenizer: text → token ids.

    Raises:
        BundleError: what to start from cannot be read.
    """
    if not config.start_from or not config.keep_names:
        return {}
    trained = {concept.name for concept in trained_embeddings(config.concepts)}
    there = read_source(find_start(config.start_from), tokenizer).vectors
    return {name: count for name, count in there.items() if name not in trained}


def with_kept(layout: Layout, kept: Mapping[str, int]) -> Layout:
    """A layout followed by the rows of kept names.

    Args:
        layout: of the trained names.
        kept: name → number of vectors.
    """
    first = sum(count for _, count in layout.values())
    result = dict(layout)
    for name, count in kept.items():
        result[name] = (first, count)
        first += count
    return result


def load_start(
    config: TrainConfig,
    adapters: Sequence[AdapterSet],
    layout: Layout,
    tables: Mapping[str, EmbeddingTable],
    encoder: TextEncoder,
) -> None:
    """Replace the initial values of a new run by those of a bundle or state, as strong as they are there.

    Args:
        config: the settings, which say what to start from.
        adapters: adapters of the run.
        layout: rows of each embedding in the tables.
        tables: encoder name → embedding table.
        encoder: the model's first one.

    Raises:
        BundleError: it cannot be read, or has other layers, ranks, names or vectors than the run.
    """
    path = find_start(config.start_from)
    with open_bundle(path) as file:
        header = file.metadata.get(STATE_HEADER)
    if header is None:
        bundle = read_bundle(path)
        loaded = {key for part in adapters if not part.only_negative for key in part.load(bundle.lora)}
        for part in adapters:
            if part.only_negative:
                part.load(read_bundle(negative_path(path)).lora)
        # Bundles of earlier versions have layers that have no effect.
        unread = tuple(prefix for family in FAMILIES.values() for prefix in family.unread_layers)
        untrained = sorted(key for key in bundle.lora.keys() - loaded if not key.startswith(unread))
        if untrained:
            raise _unfit(path, f"this run does not train its layer {printable(untrained[0])}")
        embeddings = bundle.embeddings
    else:
        before, kept = config_of_state(path, header), kept_in_state(header)
        embeddings = _load_state(path, config, before, kept, adapters, encoder)
    # New names among kept ones keep their initial values.
    new = (
        {concept.name for concept in trained_embeddings(config.concepts)} - embeddings.keys()
        if config.keep_names
        else set()
    )
    missing = [name for name in layout if name not in new and set(embeddings.get(name, ())) != set(tables)]
    if missing:
        raise _unfit(path, f"it has no embedding {printable(missing[0])} for this model")
    with torch.no_grad():
        for name, table in tables.items():
            for concept, (first, count) in layout.items():
                if concept in new:
                    continue
                vectors = embeddings[concept][name]
                rows = table.weight[first : first + count]
                if vectors.shape != rows.shape:
                    shapes = f"{list(vectors.shape)}, not {list(rows.shape)}"
                    raise _unfit(path, f"{printable(concept)} has the shape {shapes}")
                rows.copy_(vectors)
            table.set_initial_norms(torch.linalg.vector_norm(table.weight, dim=1))


def alpha_ratio(config: TrainConfig) -> float:
    """Alpha divided by the rank of the LoRA on the attention or, without one, by the largest other rank."""
    return config.alpha / (config.rank or max(config.conv_rank, config.text_encoder_rank, 1))


@torch.no_grad()
def _load_state(
    path: Path,
    config: TrainConfig,
    before: TrainConfig,
    kept: Mapping[str, int],
    adapters: Sequence[AdapterSet],
    encoder: TextEncoder,
) -> dict[str, dict[str, torch.Tensor]]:
    """Load the LoRA of a state; returns its embeddings: name → encoder name → vectors."""
    try:
        tensors = read_state(path).tensors
    except PivotalError as error:
        raise BundleError(error.message, hint=error.hint) from error
    if before.lora_kind != config.lora_kind:
        raise _unfit(path, f"its LoRA is a {before.lora_kind}")
    _load_adapters(path, tensors, adapters)
    # The same effect, whatever alpha is; LoKr and DoRA have none.
    if config.lora_kind not in ("lokr", "dora"):
        for layer in [layer for part in adapters for layer in part.layers]:
            layer.adapter.rescale(layer.parameters, alpha_ratio(before) / alpha_ratio(config))
    embeddings: dict[str, dict[str, torch.Tensor]] = {}
    for key, table in tensors.items():
        if key.startswith("table/"):
            trained = layout_of(trained_embeddings(before.concepts), encoder)
            for name, (first, count) in with_kept(trained, kept).items():
                embeddings.setdefault(name, {})[key.removeprefix("table/")] = table[first : first + count]
    return embeddings


def _load_adapters(path: Path, tensors: Mapping[str, torch.Tensor], adapters: Sequence[AdapterSet]) -> None:
    flats = [flat for part in adapters for flat in part.flats]
    if {f"lora/{flat.name}" for flat in flats} != {key for key in tensors if key.startswith("lora/")}:
        raise _unfit(path, "it trains other parts of the model")
    for flat in flats:
        values = tensors[f"lora/{flat.name}"]
        if values.shape != flat.values.shape:
            raise _unfit(path, "its LoRA has other layers or ranks")
        flat.values.copy_(values)


def _unfit(path: Path, reason: str) -> BundleError:
    text = f"The run cannot start from {printable(path.name)}: {reason}."
    return BundleError(text, hint="Use the same names, vectors, ranks and kind of model as the run that wrote it.")
