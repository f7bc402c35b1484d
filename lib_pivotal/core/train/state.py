"""The resume state of a run in one file: everything that the next step depends on.

Random numbers, captions and the order of images follow from the seed and the step number, so the state
is the trained values, the optimizer's moments and a step count. One safetensors file with JSON in its
header, written to a temporary file and renamed: after a crash there is the old file or the new one, never a part.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from lib_pivotal.core.atomic_file import FileInUse, free_name, replacing
from lib_pivotal.core.bundle.tensor_file import write_tensors
from lib_pivotal.core.errors import PivotalError
from lib_pivotal.core.train.state_files import STATE_HEADER, state_files

__all__ = ["SavedStates", "State", "load_newest", "read_state", "save_state"]

logger = logging.getLogger("pivotal.state")


@dataclass(frozen=True)
class State:
    """A saved state.

    Attributes:
        step: finished steps.
        tensors: name → tensor on the CPU.
        facts: JSON values: settings, digest of the data, model hash, output path, number of steps.
        path: file it was read from; None for a state that is being saved.
    """

    step: int
    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]
    path: Path | None = None


def save_state(folder: Path, state: State, keep: int) -> Path:
    """Write a state and remove older ones beyond ``keep``; returns the file.

    Only states of earlier steps are removed, never the one just written or a later one.

    Raises:
        PivotalError: it cannot be written.
    """
    path = folder / f"state-{state.step:06d}.safetensors"
    header = {STATE_HEADER: json.dumps({"step": state.step, **state.facts})}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            write_tensors(partial, state.tensors, header)
    except FileInUse as error:
        path = error.kept
    except OSError as error:
        message = f"The state to resume from cannot be written to {folder} ({error.strerror or error})."
        raise PivotalError(message, hint="Check free disk space and write permission.") from error
    older = [old for step, old in state_files(folder) if step <= state.step and old != path]
    for old in older[max(keep, 1) - 1 :]:
        try:
            old.unlink(missing_ok=True)
        except OSError as error:
            # Windows keeps a file that a program has open.
            logger.warning("the old state %s cannot be removed: %s", old.name, error)
    return path


class SavedStates:
    """The states of a run, newest first; unusable ones are skipped and remembered.

    Args:
        folder: the run's ``states`` folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting = [path for _, path in state_files(folder)]
        self.skipped: dict[Path, str] = {}
        """File → why it was skipped."""

    def newest(self) -> State:
        """The newest state that has not been skipped and can be read.

        Raises:
            PivotalError: there is none; the message names damaged ones.
        """
        while self._waiting:
            try:
                return _read(self._waiting[0])
            except _DamagedError as error:
                self.skip(str(error))
        if not self.skipped:
            message = f"There is no state to resume from in {self._folder}."
            raise PivotalError(message, hint="Choose a run folder that contains a saved state, or start a new run.")
        listed = "; ".join(f"{path.name}: {reason}" for path, reason in self.skipped.items())
        raise PivotalError(f"The states in {self._folder} are damaged ({listed}).", hint="Start a new run.")

    def skip(self, reason: str) -> None:
        """Skip the newest state for ``reason``; :meth:`newest` then returns the one before it."""
        path = self._waiting.pop(0)
        logger.warning("skipping the state %s: %s", path.name, reason)
        self.skipped[path] = reason

    def set_aside_skipped(self) -> None:
        """Rename skipped states to ``….damaged`` so that they are neither counted nor tried again."""
        for path in self.skipped:
            try:
                os.replace(path, free_name(path.with_name(f"{path.name}.damaged")))
            except OSError as error:
                logger.warning("the damaged state %s cannot be renamed: %s", path.name, error)


def read_state(path: Path) -> State:
    """A single state.

    Raises:
        PivotalError: it cannot be read.
    """
    try:
        return _read(path)
    except _DamagedError as error:
        raise PivotalError(f"{path.name} cannot be used ({error}).", hint="Choose another state.") from error


def load_newest(folder: Path) -> State:
    """The newest readable state of a run's ``states`` folder.

    Raises:
        PivotalError: there is none.
    """
    return SavedStates(folder).newest()


class _DamagedError(Exception):
    """A state cannot be used; the message says why."""


def _read(path: Path) -> State:
    try:
        if not path.is_file():
            message = "it is not a regular file"
            raise _DamagedError(message)
        # Cloned: a tensor of the file would keep it mapped, and Windows could not remove it.
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(STATE_HEADER, ""))
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118  (no mapping)
        # Types that a run does not write, such as 8-bit floats, can be read but not computed with.
        bad = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    except (OSError, SafetensorError, ValueError, RecursionError, NotImplementedError) as error:
        message = f"it cannot be read: {error}"
        raise _DamagedError(message) from error
    step = facts.pop("step", None) if isinstance(facts, dict) else None
    if type(step) is not int or step < 0:
        message = "its header does not say after which step it was saved"
        raise _DamagedError(message)
    if bad:
        message = f"{bad[0]} has values that are NaN or infinite"
        raise _DamagedError(message)
    return State(step, tensors, facts, path)
