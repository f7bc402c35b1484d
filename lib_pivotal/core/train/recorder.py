"""Writes the tables and the sample images of a run; training continues if they cannot be written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from lib_pivotal.core.events import Event, SampleReady, StepDone, Validated
from lib_pivotal.core.png_file import write_png
from lib_pivotal.core.train.run_folder import sample_path
from lib_pivotal.core.train.step_table import StepTable, read_last_rows, read_rows

__all__ = ["Recorder", "read_last_losses", "read_losses", "read_validation"]

logger = logging.getLogger("pivotal.recorder")

_LOSSES, _VALIDATION = "loss.csv", "validation.csv"
_NEEDED = {_LOSSES: "loss", _VALIDATION: "caption"}
_MEASURED = ("step", "caption", "name_only", "initialization")


class Recorder:
    """A sink that writes ``loss.csv``, ``validation.csv`` and ``samples/step-000100-0.png`` into the run folder.

    Nothing raises here: a file that cannot be written is reported once, and training continues without it.

    Args:
        folder: the run folder.
        first_step: steps already done; later rows of an earlier attempt are dropped.
        warn: receives a sentence for the user.
    """

    def __init__(self, folder: Path, first_step: int, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._first_step = first_step
        self._warn = warn
        self._warned: set[str] = set()
        self._tables: dict[str, StepTable] = {}
        self._try(_LOSSES, lambda: self._open(_LOSSES))

    def handle(self, event: Event) -> None:
        """Write a step or a sample; other events are not recorded."""
        if isinstance(event, StepDone):
            self._try(_LOSSES, lambda: self._write_step(event))
        elif isinstance(event, Validated):
            self._try(_VALIDATION, lambda: self._write_validation(event))
        elif isinstance(event, SampleReady):
            self._try("samples", lambda: self._write_sample(event))

    def close(self) -> None:
        """Close the tables."""
        for name, table in self._tables.items():
            self._try(name, table.close)

    def _try(self, what: str, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:
            if what not in self._warned:
                self._warned.add(what)
                logger.warning("%s cannot be written", what, exc_info=True)
                reason = getattr(error, "strerror", None) or error
                self._warn(f"{self._folder / what} cannot be written ({reason}). Training continues without it.")

    def _open(self, name: str) -> None:
        self._tables[name] = StepTable(self._folder / name, self._first_step, _NEEDED[name])

    def _write_step(self, event: StepDone) -> None:
        if _LOSSES not in self._tables:
            return
        values: dict[str, object] = {"step": event.step, "loss": event.loss, "seconds": round(event.seconds, 4)}
        for title, numbers in (
            ("rate", event.learning_rates),
            ("gradient", event.grad_norms),
            ("norm", event.embedding_norms),
            ("change", event.weight_changes),
        ):
            values.update({f"{title} {name}": number for name, number in numbers.items()})
        self._tables[_LOSSES].write(values)

    def _write_validation(self, event: Validated) -> None:
        # A run without validation images has no such table.
        if _VALIDATION not in self._tables and _VALIDATION not in self._warned:
            self._open(_VALIDATION)
        if _VALIDATION in self._tables:
            numbers = {"name_only": event.name_only, "initialization": event.initialization}
            known = {name: number for name, number in numbers.items() if number is not None}
            self._tables[_VALIDATION].write({"step": event.step, "caption": event.caption, **known})

    def _write_sample(self, event: SampleReady) -> None:
        path = sample_path(self._folder, event.step, event.index)
        path.parent.mkdir(exist_ok=True)
        write_png(path, event.image, {"parameters": event.infotext})


def read_losses(folder: Path) -> list[tuple[int, float]]:
    """Steps and losses of a run folder's ``loss.csv``."""
    return [(int(row["step"]), float(row["loss"])) for row in read_rows(folder / _LOSSES, _NEEDED[_LOSSES])]


def read_last_losses(folder: Path) -> list[tuple[int, float]]:
    """Like :func:`read_losses`, but of a long run only the last steps.

    Raises:
        OSError: the table cannot be read.
    """
    return [(int(row["step"]), float(row["loss"])) for row in read_last_rows(folder / _LOSSES, _NEEDED[_LOSSES])]


def read_validation(folder: Path) -> list[dict[str, float]]:
    """Rows of a run folder's ``validation.csv``: step, caption and, where measured, name_only and initialization."""
    rows = read_rows(folder / _VALIDATION, _NEEDED[_VALIDATION])
    return [{name: float(row[name]) for name in _MEASURED if name in row} for row in rows]
