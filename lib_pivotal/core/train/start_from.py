"""Starts a new run from the weights of a bundle: what must fit, and how they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from lib_pivotal.core.bundle.embeddings import parse_tensor_file
from lib_pivotal.core.bundle.file import open_bundle, read_bundle
from lib_pivotal.core.bundle.inspection import family_of
from lib_pivotal.core.bundle.tensor_file import TensorFile
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.user_path import bare_path, check_path
from lib_pivotal.core.errors import BundleError, Problem
from lib_pivotal.core.families import FAMILIES, family_of_metadata
from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.core.printable import printable
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingTable, Layout

__all__ = ["check_start_from", "load_start"]

_FIELD = "start_from"
_DOWN = ".lora_down.weight"


def check_start_from(
    config: TrainConfig, family: str, tokenizer: Callable[[str], Sequence[int]] | None
) -> list[Problem]:
    """Why a run cannot start from the bundle that its settings name: family, names, vectors and ranks must match.

    Args:
        config: the settings.
        family: family of the model, see ``core.families``; empty if it is not known.
        tokenizer: text → token ids; None skips the check of concepts with 0 vectors.
    """
    text = bare_path(config.start_from)
    spelling = check_path(_FIELD, text)
    if spelling:
        return spelling
    try:
        with open_bundle(Path(text).expanduser()) as file:
            return _misfits(file, config, family, tokenizer)
    except BundleError as error:
        return [Problem(_FIELD, "error", error.message, error.hint)]


def _misfits(
    file: TensorFile, config: TrainConfig, family: str, tokenizer: Callable[[str], Sequence[int]] | None
) -> list[Problem]:
    there = parse_tensor_file(file).embeddings
    problems = []
    said = family_of_metadata(file.metadata)
    families = {said.title} if said is not None else {family_of(item.encoders) for item in there.values()}
    if family and families and families != {FAMILIES[family].title}:
        text = f"It is for {', '.join(sorted(families))}, and the model is {FAMILIES[family].title}."
        problems.append(Problem(_FIELD, "error", text, "Choose another bundle, or load another model."))
    for index, concept in enumerate(config.concepts):
        if concept.name not in there:
            known = ", ".join(map(printable, sorted(there)[:20])) or "none"
            text = f"The bundle to start from has no embedding with this name. It has: {known}."
            problems.append(Problem(f"concepts[{index}].name", "error", text, "Use the same names as the bundle."))
            continue
        count = there[concept.name].vector_count
        wanted = concept.vectors or (max(1, len(tokenizer(concept.init_text))) if tokenizer is not None else count)
        if count != wanted:
            text = f"The bundle to start from has {count} vectors for this concept, not {wanted}."
            problems.append(Problem(f"concepts[{index}].vectors", "error", text, f"Set it to {count}."))
    left_out = sorted(there.keys() - {concept.name for concept in config.concepts})
    if left_out:
        text = f"Embeddings of the bundle that this run does not continue: {', '.join(map(printable, left_out[:20]))}."
        problems.append(Problem(_FIELD, "warning", text, "Add concepts with these names to continue them, too."))
    ranks = {entry.shape[0] for key, entry in file.entries.items() if key.endswith(_DOWN) and entry.shape}
    expected = {config.rank, config.conv_rank, config.text_encoder_rank} - {0}
    if ranks != expected:
        shown, hint = (", ".join(map(str, sorted(numbers))) or "no LoRA" for numbers in (ranks, expected))
        text = f"The LoRA of the bundle to start from has rank {shown}, and the settings say {hint}."
        problems.append(Problem("rank", "error", text, "Use the same ranks as the bundle."))
    return problems


def load_start(
    path: Path, adapters: Sequence[AdapterSet], layout: Layout, tables: Mapping[str, EmbeddingTable]
) -> None:
    """Replace the initial values of a new run by those of a bundle, as strong as they are there.

    Args:
        path: the bundle.
        adapters: adapters of the run.
        layout: rows of each embedding in the tables.
        tables: encoder name → embedding table.

    Raises:
        BundleError: the bundle cannot be read, or has other layers, ranks, names or vectors than the run.
    """
    bundle = read_bundle(path)
    missing = [name for name in layout if set(bundle.embeddings.get(name, ())) != set(tables)]
    if missing:
        raise _unfit(path, f"it has no embedding {printable(missing[0])} for this model")
    loaded = {key for part in adapters for key in part.load(bundle.lora)}
    if bundle.lora.keys() != loaded:
        key = printable(sorted(bundle.lora.keys() - loaded)[0])
        raise _unfit(path, f"this run does not train its layer {key}")
    with torch.no_grad():
        for encoder, table in tables.items():
            for name, (first, count) in layout.items():
                vectors = bundle.embeddings[name][encoder]
                rows = table.weight[first : first + count]
                if vectors.shape != rows.shape:
                    raise _unfit(path, f"{printable(name)} has the shape {list(vectors.shape)}, not {list(rows.shape)}")
                rows.copy_(vectors)


def _unfit(path: Path, reason: str) -> BundleError:
    text = f"The run cannot start from {printable(path.name)}: {reason}."
    return BundleError(text, hint="Use the same names, vectors, ranks and kind of model as the run that wrote it.")
