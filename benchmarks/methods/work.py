"""Trains and measures one row of the table, in a process that may measure several."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import time
import traceback
from collections.abc import Collection
from pathlib import Path

from benchmarks.methods.measures import Measures
from benchmarks.methods.rows import ROWS
from lib_pivotal.demo.assets import materialize

__all__ = ["is_measured", "measured", "result_path"]


def result_path(title: str, seed: int, options: argparse.Namespace) -> Path:
    """The file with what has been measured of a row."""
    slug = "".join(letter if letter.isalnum() else "-" for letter in title)
    return Path(options.out) / f"{slug}-{options.steps}-{seed}" / "result.json"


def is_measured(title: str, seed: int, options: argparse.Namespace, measures: Collection[str]) -> bool:
    """Whether a row has been measured with its present settings.

    Args:
        title: of the row.
        seed: of the run.
        options: of the program.
        measures: what the result must have.
    """
    path = result_path(title, seed, options)
    found = json.loads(path.read_text()) if path.exists() else {}
    return found.get("changes") == {**ROWS[title].changes} and set(measures) <= found.keys()


def measured(title: str, seed: int, options: argparse.Namespace) -> str:
    """Measure a row in a process of the pool; returns how it went."""
    path = result_path(title, seed, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with (path.parent / "output.txt").open("w") as output:
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                _measure(title, seed, options)
        except BaseException:
            traceback.print_exc(file=output)
            return f"{title}, seed {seed}: FAILED, see {output.name}"
    return f"{title}, seed {seed}: {time.monotonic() - started:.0f} s"


def _measure(title: str, seed: int, options: argparse.Namespace) -> None:
    path = result_path(title, seed, options)
    row = ROWS[title]
    started = time.process_time()
    bundle = row.run(
        materialize(options.out / "model").a, options.out / "data", path.parent, steps=options.steps, seed=seed
    )
    milliseconds = 1000 * (time.process_time() - started) / options.steps
    result = _measures(options.out).of(bundle, has_names=row.has_names)
    path.write_text(json.dumps({**result, "changes": {**row.changes}, "cpu ms": milliseconds}, indent=1))


@functools.cache
def _measures(out: Path) -> Measures:
    """The measures with their models, which stay in the process."""
    return Measures(materialize(out / "model"), out / "held-out")
