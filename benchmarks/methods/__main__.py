"""Compares training methods on the embedded small model: ``python run.py bench methods``.

Each row of the table is a run on the demo's two characters with the same number of steps and the same noise. A row
that has been measured is not trained again: the results are kept in the output folder, and a stopped program goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

import torch

from benchmarks.methods.measures import Measures, write_held_out
from benchmarks.methods.rows import BATCH, ROWS, Row
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
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.row:
        _measure(options.row, options.seed, options)
        return
    _prepare(options.out)
    titles = [title for title, row in ROWS.items() if _is_chosen(title, row, options.only)]
    jobs = [(title, seed) for seed in range(options.seeds) for title in titles]
    with ThreadPoolExecutor(options.workers) as pool:
        are_done = list(pool.map(lambda job: _in_child(job[0], job[1], options), jobs))
    _print(titles, options)
    if not all(are_done):
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


def _result_path(title: str, seed: int, options: argparse.Namespace) -> Path:
    slug = "".join(letter if letter.isalnum() else "-" for letter in title)
    return Path(options.out) / f"{slug}-{options.steps}-{seed}" / "result.json"


def _in_child(title: str, seed: int, options: argparse.Namespace) -> bool:
    """Measure a row in a process of its own, unless it has been measured with these settings; False if that fails."""
    path = _result_path(title, seed, options)
    found = json.loads(path.read_text()) if path.exists() else {}
    if found.get("changes") == {**ROWS[title].changes} and _COLUMNS.keys() <= found.keys():
        return True
    started = time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["--out", str(options.out), "--steps", str(options.steps), "--row", title, "--seed", str(seed)]
    with (path.parent / "output.txt").open("w") as output:
        command = [sys.executable, "-m", "benchmarks.methods", *arguments]
        code = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
    verdict = f"{time.monotonic() - started:.0f} s" if code == 0 else f"FAILED, see {output.name}"
    sys.stdout.write(f"{title}, seed {seed}: {verdict}\n")
    sys.stdout.flush()
    return code == 0


def _measure(title: str, seed: int, options: argparse.Namespace) -> None:
    path = _result_path(title, seed, options)
    row, bases = ROWS[title], materialize(options.out / "model")
    started = time.process_time()
    bundle = row.run(bases.a, options.out / "data", path.parent, steps=options.steps, seed=seed)
    milliseconds = 1000 * (time.process_time() - started) / options.steps
    result = Measures(bases, options.out / "held-out").of(bundle, has_names=row.has_names)
    path.write_text(json.dumps({**result, "changes": {**row.changes}, "cpu ms": milliseconds}, indent=1))


def _print(titles: Sequence[str], options: argparse.Namespace) -> None:
    """Print the means over the seeds as a Markdown table."""
    lines = [f"{options.steps} steps of {BATCH}, mean of {options.seeds} seeds", ""]
    lines.append("| method | " + " | ".join(heading for heading, _ in _COLUMNS.values()) + " |")
    lines.append("|---|" + "---:|" * len(_COLUMNS))
    for title in titles:
        paths = [_result_path(title, seed, options) for seed in range(options.seeds)]
        results = [json.loads(path.read_text()) for path in paths if path.exists()]
        if results:
            cells = [text.format(mean(item[key] for item in results)) for key, (_, text) in _COLUMNS.items()]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
