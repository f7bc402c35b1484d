"""What a new run can start from: a bundle, or a state of a run, whose header says what is in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_pivotal.core.bundle.embeddings import parse_tensor_file
from lib_pivotal.core.bundle.file import open_bundle
from lib_pivotal.core.bundle.inspection import family_of
from lib_pivotal.core.bundle.tensor_file import TensorFile
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.negative import trained_embeddings
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.user_path import bare_path
from lib_pivotal.core.errors import BundleError
from lib_pivotal.core.families import family_of_metadata, family_of_widths
from lib_pivotal.core.printable import printable
from lib_pivotal.core.train.run_folder import STEPS
from lib_pivotal.core.train.state_facts import facts_problem
from lib_pivotal.core.train.state_files import STATE_HEADER
from lib_pivotal.core.train.step_bundles import newest_weights

__all__ = ["StartSource", "config_of_state", "find_start", "kept_in_state", "read_source"]

_MAGNITUDES = ".dora_scale"
_RANK_KEYS = {".lora_down.weight": "lora", ".hada_w1_b": "loha", ".lokr_w1": "lokr"}
"""End of a key in every layer's tensors → kind of LoRA, see ``core.lora.kinds``."""


@dataclass(frozen=True)
class StartSource:
    """What a file has for a run to start from.

    Attributes:
        kind: ``bundle`` or ``state``.
        vectors: name of each embedding → number of its vectors.
        families: titles of the model families it is for; empty if it has no embeddings.
        lora_kind: see ``core.lora.kinds``; empty if it has no LoRA of a kind that is trained here.
        ranks: of the LoRA's layers.
        lokr_factor: see ``core.lora.lokr``; None for other kinds, or if it does not say.
    """

    kind: str
    vectors: Mapping[str, int]
    families: frozenset[str]
    lora_kind: str
    ranks: frozenset[int]
    lokr_factor: int | None = None


def find_start(text: str) -> Path:
    """The file that the setting ``start_from`` means; of a run folder it is the bundle or state of the latest step.

    Args:
        text: as the user typed it.

    Raises:
        BundleError: the folder has neither.
    """
    path = Path(bare_path(text)).expanduser()
    if not path.is_dir():
        return path
    newest = newest_weights(path, path / STEPS)
    if newest is None:
        hint = "Give a bundle, a state, or the folder of a run that has either."
        raise BundleError(f"{printable(path.name)} has no state and no bundle to start from.", hint=hint)
    return newest


def read_source(path: Path, tokenizer: Callable[[str], Sequence[int]] | None) -> StartSource:
    """Read the header of a bundle or of a state.

    Args:
        path: the file.
        tokenizer: text → token ids; needed for embeddings of a state that have as many vectors as their text.

    Raises:
        BundleError: it is neither.
    """
    with open_bundle(path) as file:
        if STATE_HEADER in file.metadata:
            return _state_source(path, file, tokenizer)
        found = parse_tensor_file(file).embeddings
        said = family_of_metadata(file.metadata)
        families = {said.title} if said is not None else {family_of(item.encoders) for item in found.values()}
        layers = [
            (kind, entry.shape[0])
            for key, entry in file.entries.items()
            for end, kind in _RANK_KEYS.items()
            if key.endswith(end) and entry.shape
        ]
        lora_kind = layers[0][0] if layers else ""
        ranks = {rank for kind, rank in layers if kind == lora_kind}
        if any(key.endswith(_MAGNITUDES) for key in file.entries):
            # Of the others, only LoRA is trained with magnitudes.
            lora_kind = "dora" if lora_kind == "lora" else f"{lora_kind} with DoRA"
        vectors = {name: item.vector_count for name, item in found.items()}
        factor = _stored_factor(file.metadata) if lora_kind == "lokr" else None
        return StartSource("bundle", vectors, frozenset(families), lora_kind, frozenset(ranks), factor)


def _stored_factor(metadata: Mapping[str, str]) -> int | None:
    """The LoKr factor that LyCORIS' metadata says; -1 stands for 0 there."""
    try:
        factor = json.loads(metadata.get("ss_network_args", ""))["factor"]
        return max(int(factor), 0)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def config_of_state(path: Path, header: str) -> TrainConfig:
    """The settings of the run that a state is from.

    Args:
        path: the state, for messages.
        header: its metadata ``STATE_HEADER``.

    Raises:
        BundleError: they are damaged.
    """
    try:
        facts = json.loads(header)
        problem = facts_problem(facts) if isinstance(facts, dict) else "its header has no settings"
    except (ValueError, RecursionError):
        problem = "its header is not JSON"
    if problem:
        raise BundleError(f"{printable(path.name)} cannot be used ({problem}).", hint="Choose another state.")
    return read_dict(facts["config"])[0]


def kept_in_state(header: str) -> dict[str, int]:
    """The names that the run of a state keeps without training them → number of vectors.

    Args:
        header: its metadata ``STATE_HEADER``, which :func:`config_of_state` has read.
    """
    kept: dict[str, int] = json.loads(header).get("kept", {})
    return kept


def _state_source(path: Path, file: TensorFile, tokenizer: Callable[[str], Sequence[int]] | None) -> StartSource:
    config = config_of_state(path, file.metadata[STATE_HEADER])
    shapes = [entry.shape for key, entry in file.entries.items() if key.startswith("table/") and len(entry.shape) == 2]
    family = family_of_widths(shape[1] for shape in shapes)
    counts = {item.name: item.vectors for item in trained_embeddings(config.concepts)}
    if tokenizer is not None:
        texts = {item.name: item.init_text for item in config.concepts}
        counts = {name: count or max(1, len(tokenizer(texts[name]))) for name, count in counts.items()}
    counts.update(kept_in_state(file.metadata[STATE_HEADER]))
    ranks = {config.rank, config.conv_rank, config.text_encoder_rank} - {0}
    lora_kind = config.lora_kind if ranks else ""
    factor = config.lokr_factor if lora_kind == "lokr" else None
    return StartSource("state", counts, frozenset({family} if family else ()), lora_kind, frozenset(ranks), factor)
