"""Compares training methods on the embedded small model: ``python run.py bench methods``.

Each row of the table is a run on the demo's two characters with the same number of steps and the same noise. A row
that has been measured is not trained again: the results are kept in the output folder, and a stopped program goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import mean

import torch

from benchmarks.methods.measures import Measures, write_held_out
from benchmarks.methods.rows import BATCH, ROWS, Row
from benchmarks.methods.work import is_measured, measured, result_path
from lib_pivotal.demo.__main__ import NAMES
from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.characters import write_dataset

_COLUMNS = {
    "gain whole a": ("gain", "{:.1%}"),
    "gain embeddings a": ("without LoRA", "{:.1%}"),
    "gain whole b": ("on base B", "{:.1%}"),
    "gain embeddings b": ("without LoRA on B", "{:.1%}"),
    "drift": ("drift", "{:.4f}"),
    "looks whole a": ("right looks", "{:.0%}"),
    "looks embeddings a": ("without LoRA", "{:.0%}"),
    "looks whole b": ("right looks on B", "{:.0%}"),
    "looks embeddings b": ("without LoRA on B", "{:.0%}"),
    "backgrounds": ("asked-for background", "{:.0%}"),
    "lowest norm": ("norms from", "{:.1f}"),
    "highest norm": ("to", "{:.1f}"),
    "bytes": ("bytes", "{:.0f}"),
    "cpu ms": ("ms of CPU per step", "{:.0f}"),
}
"""Measure → heading and format."""


def main() -> None:
    """Train and measure what has not been measured, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-out/methods"), help="folder for the results")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--only", help="a group of rows, or how a title begins; else all but a few, such as norms at other rates"
    )
    parser.add_argument("--workers", type=int, default=2, help="how many runs at a time")
    options = parser.parse_args()
    _prepare(options.out)
    titles = [title for title, row in ROWS.items() if _is_chosen(title, row, options.only)]
    jobs = [(title, seed) for seed in range(options.seeds) for title in titles]
    missing = [(title, seed) for title, seed in jobs if not is_measured(title, seed, options, _COLUMNS)]
    # Processes that have the models already take the next row.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context, torch.set_num_threads, (1,)) as pool:
        verdicts = [pool.submit(measured, title, seed, options) for title, seed in missing]
        for verdict in as_completed(verdicts):
            sys.stdout.write(verdict.result() + "\n")
            sys.stdout.flush()
    _print(titles, options)
    if not all(is_measured(title, seed, options, _COLUMNS) for title, seed in jobs):
        raise SystemExit(1)


def _is_chosen(title: str, row: Row, only: str | None) -> bool:
    return row.group == only or title.startswith(only) if only else not row.is_extra


def _prepare(out: Path) -> None:
    """Write the models and images that all rows use."""
    if (out / "prepared").exists():
        return
    bases = materialize(out / "model")
    for name in NAMES:
        write_dataset(out / "data" / name, name)
    write_held_out(out / "held-out")
    Measures(bases, out / "held-out").prepare()
    (out / "prepared").touch()


def _print(titles: Sequence[str], options: argparse.Namespace) -> None:
    """Print the means over the seeds as a Markdown table."""
    lines = [f"{options.steps} steps of {BATCH}, mean of {options.seeds} seeds", ""]
    lines.append("| method | " + " | ".join(heading for heading, _ in _COLUMNS.values()) + " |")
    lines.append("|---|" + "---:|" * len(_COLUMNS))
    for title in titles:
        paths = [result_path(title, seed, options) for seed in range(options.seeds)]
        results = [json.loads(path.read_text()) for path in paths if path.exists()]
        if results:
            cells = [text.format(mean(item[key] for item in results)) for key, (_, text) in _COLUMNS.items()]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
