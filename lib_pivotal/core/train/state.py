"""The state of a run in one file: everything that the next step depends on.

Random numbers, captions and the order of pictures follow from the seed and the step number, so the state
is the trained values, the optimiser's moments and a step count. One safetensors file with JSON in its
header, written beside and renamed: after a crash there is the old file or the new one, never half a one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lib_pivotal.core.bundle.file import replacing
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem

__all__ = ["State", "compare", "load_newest", "save_state"]

logger = logging.getLogger("pivotal.state")

_HEADER = "pivotal_state"
_MAY_CHANGE = frozenset(
    {
        "checkpoint",
        "data_folder",
        "gradient_checkpointing",
        "if_exists",
        "keep_states",
        "memory",
        "cache_to_disk",
        "output_name",
        "sample_cfg",
        "sample_every",
        "sample_negative",
        "sample_prompts",
        "sample_seed",
        "sample_steps",
        "save_every",
        "save_precision",
        "steps",
    }
)
"""Settings that do not enter a step, or (steps) are meant to be extended; the folder may have moved."""


@dataclass(frozen=True)
class State:
    """A saved state.

    Attributes:
        step: finished steps.
        tensors: by the names the run gave them, on the CPU.
        facts: JSON values: settings, digest of the data, model, output path.
    """

    step: int
    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]


def save_state(folder: Path, state: State, keep: int) -> Path:
    """Write a state and remove older ones beyond ``keep``; returns the file.

    Raises:
        PivotalError: it cannot be written.
    """
    path = folder / f"state-{state.step:06d}.safetensors"
    header = {_HEADER: json.dumps({"step": state.step, **state.facts})}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            save_file(state.tensors, partial, header)
    except (OSError, SafetensorError) as error:
        # A full disk is an OSError only where Python writes.
        reason = getattr(error, "strerror", None) or error
        message = f"The state to resume from cannot be written ({reason})."
        raise PivotalError(message, hint="Free space or rights?") from error
    for old in sorted(folder.glob("state-*.safetensors"))[:-keep]:
        try:
            old.unlink(missing_ok=True)
        except OSError as error:
            # Windows keeps a file that a program has open.
            logger.warning("the old state %s cannot be removed: %s", old.name, error)
    return path


def load_newest(folder: Path) -> State:
    """The newest readable state of a run's ``states`` folder.

    Raises:
        PivotalError: there is none.
    """
    for path in sorted(folder.glob("state-*.safetensors"), reverse=True):
        try:
            # Copies: a tensor of the file would keep it mapped, and Windows then refuses to remove it.
            with safe_open(str(path), framework="pt") as file:
                facts = json.loads(file.metadata()[_HEADER])
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118  (no mapping)
            return State(facts.pop("step"), tensors, facts)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            logger.warning("skipping the damaged state %s: %s", path.name, error)
    raise PivotalError(f"There is no state to resume from in {folder}.", hint="Give a run folder that has saved one.")


def compare(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on when something that enters a step is not what it was.

    Args:
        saved: facts of the state.
        now: facts of this run, same keys.

    Raises:
        ConfigError: naming every difference.
    """
    before, after = saved.get("config", {}), now["config"]
    changed = [name for name in sorted(set(before) | set(after)) if before.get(name) != after.get(name)]
    problems = [
        Problem(
            name,
            "error",
            f"The run was started with {before.get(name)!r}, not {after.get(name)!r}.",
            "Put it back, or start a new run.",
        )
        for name in changed
        if name not in _MAY_CHANGE
    ]
    for name, words in (("data", "The pictures or captions have"), ("model", "The model has")):
        if saved.get(name) != now[name]:
            problems.append(
                Problem(
                    name, "error", f"{words} changed since the run was started.", "Put it back, or start a new run."
                )
            )
    if problems:
        raise ConfigError(problems)
