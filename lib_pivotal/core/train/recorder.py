"""What stays of a run on disk: loss.csv and the sample pictures."""

from __future__ import annotations

import csv
from pathlib import Path

from PIL import PngImagePlugin

from lib_pivotal.core.bundle.file import replacing
from lib_pivotal.core.events import Event, SampleReady, StepDone

__all__ = ["Recorder", "read_losses", "sample_name"]

_FIRST_COLUMNS = ["step", "loss", "seconds"]


class Recorder:
    """A sink that writes ``loss.csv`` and ``samples/step-000100-0.png`` into the run folder.

    Args:
        folder: the run folder.
        first_step: steps already done; later rows of an earlier attempt are dropped.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._samples = folder / "samples"
        self._path = folder / "loss.csv"
        rows = [row for row in _rows(self._path) if int(row["step"]) <= first_step]
        self._columns: list[str] = list(rows[0]) if rows else []
        with replacing(self._path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            if rows:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(rows)
        self._file = self._path.open("a", newline="", encoding="utf-8")

    def handle(self, event: Event) -> None:
        """Write a step or a sample; other events are not recorded."""
        if isinstance(event, StepDone):
            self._write_step(event)
        elif isinstance(event, SampleReady):
            self._write_sample(event)

    def close(self) -> None:
        """Close the table."""
        self._file.close()

    def _write_step(self, event: StepDone) -> None:
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
        self._samples.mkdir(exist_ok=True)
        info = PngImagePlugin.PngInfo()
        info.add_text("parameters", event.infotext)
        with replacing(self._samples / sample_name(event.step, event.index)) as partial:
            event.image.save(partial, "PNG", pnginfo=info)


def sample_name(step: int, index: int) -> str:
    """File name of a sample in the run's ``samples`` folder."""
    return f"step-{step:06d}-{index}.png"


def read_losses(folder: Path) -> list[tuple[int, float]]:
    """Steps and losses of a run folder's ``loss.csv``."""
    return [(int(row["step"]), float(row["loss"])) for row in _rows(folder / "loss.csv")]


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            # A row that a crash cut short has no step or misses cells.
            return [
                row for row in csv.DictReader(file) if (row.get("step") or "").isdigit() and None not in row.values()
            ]
    except FileNotFoundError:
        return []
