"""Writes loss.csv and the sample images of a run; training continues if they cannot be written."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from PIL import PngImagePlugin

from lib_pivotal.core.atomic_file import free_name, replacing
from lib_pivotal.core.events import Event, SampleReady, StepDone
from lib_pivotal.core.train.run_folder import sample_path

__all__ = ["Recorder", "read_losses"]

logger = logging.getLogger("pivotal.recorder")

_TABLE = "loss.csv"


class Recorder:
    """A sink that writes ``loss.csv`` and ``samples/step-000100-0.png`` into the run folder.

    Nothing raises here: a file that cannot be written is reported once, and training continues without it.

    Args:
        folder: the run folder.
        first_step: steps already done; later rows of an earlier attempt are dropped.
        warn: receives a sentence for the user.
    """

    def __init__(self, folder: Path, first_step: int, warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._path = folder / _TABLE
        self._warn = warn
        self._warned: set[str] = set()
        self._columns: list[str] = []
        self._file: TextIO | None = None
        self._try(_TABLE, lambda: self._open(first_step))

    def handle(self, event: Event) -> None:
        """Write a step or a sample; other events are not recorded."""
        if isinstance(event, StepDone):
            self._try(_TABLE, lambda: self._write_step(event))
        elif isinstance(event, SampleReady):
            self._try("samples", lambda: self._write_sample(event))

    def close(self) -> None:
        """Close ``loss.csv``."""
        if self._file is not None:
            self._try(_TABLE, self._file.close)

    def _try(self, what: str, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:
            if what not in self._warned:
                self._warned.add(what)
                logger.warning("%s cannot be written", what, exc_info=True)
                reason = getattr(error, "strerror", None) or error
                self._warn(f"{self._folder / what} cannot be written ({reason}). Training continues without it.")

    def _open(self, first_step: int) -> None:
        rows, is_damaged = _rows(self._path)
        if is_damaged:
            # Keep the damaged file under another name.
            os.replace(self._path, free_name(self._path.with_name(f"{_TABLE}.damaged")))
        rows = [row for row in rows if int(row["step"]) <= first_step]
        self._columns = list(rows[0]) if rows else []
        with replacing(self._path, keep=False) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            if rows:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(rows)
        self._file = self._path.open("a", newline="", encoding="utf-8")

    def _write_step(self, event: StepDone) -> None:
        if self._file is None:
            return
        values: dict[str, object] = {"step": event.step, "loss": event.loss, "seconds": round(event.seconds, 4)}
        for title, numbers in (
            ("rate", event.learning_rates),
            ("gradient", event.grad_norms),
            ("norm", event.embedding_norms),
        ):
            values.update({f"{title} {name}": number for name, number in numbers.items()})
        writer = csv.DictWriter(self._file, self._columns or list(values), extrasaction="ignore")
        if not self._columns:
            self._columns = list(values)
            writer.writeheader()
        writer.writerow(values)
        self._file.flush()

    def _write_sample(self, event: SampleReady) -> None:
        path = sample_path(self._folder, event.step, event.index)
        path.parent.mkdir(exist_ok=True)
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", event.infotext)
        with replacing(path, keep=False) as partial:
            event.image.save(partial, "PNG", pnginfo=info)


def read_losses(folder: Path) -> list[tuple[int, float]]:
    """Steps and losses of a run folder's ``loss.csv``."""
    rows, _ = _rows(folder / _TABLE)
    return [(int(row["step"]), float(row["loss"])) for row in rows]


def _rows(path: Path) -> tuple[list[dict[str, str]], bool]:
    """The valid rows, and whether the file is damaged."""
    rows: list[dict[str, str]] = []
    is_damaged = False
    try:
        if not path.is_file():
            return [], path.exists()
        raw = path.read_bytes()
        is_damaged = b"\0" in raw
        lines = raw.replace(b"\0", b"").decode("utf-8", "replace")
        is_damaged = is_damaged or "\ufffd" in lines
        reader = csv.DictReader(lines.splitlines())
        # A row that was cut off by a crash lacks its step or other cells.
        rows.extend(row for row in reader if None not in (*row, *row.values()) and _is_step(row))
    except csv.Error:
        is_damaged = True
    return rows, is_damaged


def _is_step(row: dict[str, str]) -> bool:
    try:
        float(row["loss"])
    except (KeyError, ValueError):
        return False
    step = row.get("step", "")
    return step.isascii() and step.isdecimal() and len(step) < 10
