"""The command ``data report``: what each concept of a settings file gets from the run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_pivotal.cli.console import say
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.core.printable import printable

if TYPE_CHECKING:
    from lib_pivotal.core.train.concept_table import ConceptRow, ConceptTable

__all__ = ["add_report_command", "table_text"]

_HEAD = ("Concept", "Images", "Alone", "With others", "Share", "Samples", "Each image is seen")
_WITHOUT = "(no concept)"


def add_report_command(tools: Any) -> None:
    """Add the command ``report`` to the subparsers of ``data``."""
    report = tools.add_parser("report", help="what each concept gets: images, share of the samples, views per image")
    report.add_argument("config", type=Path, help="JSON settings file")
    report.add_argument("--preset", metavar="NAME", help="settings to start from; those of the file win")
    report.add_argument("--json", action="store_true", help="print JSON instead of a table")
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    # Imported here: torch takes seconds to import, and --help should be fast.
    from lib_pivotal.cli.train import read_settings
    from lib_pivotal.core.data.dataset_report import read_dataset
    from lib_pivotal.core.data.findings import dataset_problems
    from lib_pivotal.core.train.concept_table import concept_table, table_problems
    from lib_pivotal.core.train.setting_checks import check_settings
    from lib_pivotal.host.diffusers.checkpoint_family import family_of_checkpoint

    config, problems = read_settings(options.config, None, options.preset)
    problems += [problem for problem in check_settings(config) if problem.is_error]
    if problems:
        raise ConfigError(problems)
    dataset = read_dataset(config)
    if not dataset.usable:
        raise ConfigError([problem for problem in dataset_problems(dataset, config) if problem.is_error])
    family = family_of_checkpoint(Path(config.checkpoint).expanduser()) if config.checkpoint.strip() else ""
    table = concept_table(config, dataset.usable, family)
    if options.json:
        say(json.dumps(table.as_dict(), indent=2, ensure_ascii=False) + "\n")
        return 0
    say(table_text(table))
    for problem in table_problems(table):
        say(f"{problem.severity}: {problem}\n")
    return 0


def table_text(table: ConceptTable) -> str:
    """The table as plain text in columns; unusual rows are marked with an exclamation mark."""
    lines = [_HEAD, *(_cells(row) for row in table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    text = "".join(_aligned(line, widths) for line in lines)
    return f"{table.images} images, {table.steps} steps, {table.samples} samples\n{text}"


def _cells(row: ConceptRow) -> tuple[str, ...]:
    fewest, most = round(row.fewest_views), round(row.most_views)
    views = f"{most} times" if fewest == most else f"{fewest} to {most} times"
    return (
        printable(row.name) if row.name else _WITHOUT,
        str(row.images),
        str(row.alone),
        str(row.with_others),
        f"{100 * row.share:.1f} %",
        str(row.samples),
        f"{views} !" if row.remark else views,
    )


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    first, *numbers, last = line
    middle = [text.rjust(width) for text, width in zip(numbers, widths[1:-1], strict=True)]
    return "  ".join([first.ljust(widths[0]), *middle, last]) + "\n"
