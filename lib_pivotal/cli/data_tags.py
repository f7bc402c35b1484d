"""The commands ``data tags``, ``data clean`` and ``data export-tags``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_pivotal.cli.console import say
from lib_pivotal.core.errors import ConfigError, HostError, Problem
from lib_pivotal.core.printable import printable, printable_json

if TYPE_CHECKING:
    from lib_pivotal.core.config.schema import TrainConfig

__all__ = ["add_tag_commands"]

_MAX_CAPTION_LENGTH = 300


def add_tag_commands(commands: Any) -> None:
    """Add the commands for core tags.

    Args:
        commands: return value of ``add_subparsers``.
    """
    tags = commands.add_parser("tags", help="suggest core tags and initialization texts from the captions")
    tags.add_argument("config", type=Path, help="JSON settings file")
    tags.add_argument("--apply", type=Path, metavar="FILE", help="write settings with the suggestions to a new file")
    tags.add_argument(
        "--replace", action="store_true", help="with --apply: also replace core tags and texts that are there"
    )
    tags.add_argument("--json", action="store_true", help="print JSON")
    tags.add_argument(
        "--classes",
        type=Path,
        metavar="FOLDER",
        default=Path(),
        help="folder with a tag_classes.txt of your own (default: the current one)",
    )
    tags.set_defaults(run=_tags)

    clean = commands.add_parser("clean", help="copy images, and captions without core tags, into a new folder")
    clean.add_argument("config", type=Path, help="JSON settings file")
    clean.add_argument("--into", type=Path, metavar="FOLDER", required=True, help="a folder that is new or empty")
    clean.set_defaults(run=_clean)

    export = commands.add_parser("export-tags", help="write wildcard.txt, core_tags.json and emb_init.json")
    export.add_argument("config", type=Path, help="JSON settings file")
    export.add_argument("--into", type=Path, metavar="FOLDER", required=True, help="output folder")
    export.set_defaults(run=_export)


def _tags(options: argparse.Namespace) -> int:
    from lib_pivotal.core.core_tags.report import as_plain
    from lib_pivotal.core.core_tags.suggestion import apply, suggest
    from lib_pivotal.core.core_tags.tag_classes import load_tag_classes
    from lib_pivotal.core.data.dataset_report import read_dataset

    config = _settings(options.config)
    classes = load_tag_classes(options.classes)
    dataset = read_dataset(config)
    _refuse(dataset.problems)
    suggestions = suggest(config, dataset.usable, classes, _tokenizer(config.checkpoint))
    plain = as_plain(suggestions, config, dataset.usable)
    say(printable_json(plain) + "\n" if options.json else _table(plain))
    if options.apply is not None:
        _write_new(options.apply, apply(config, suggestions, replaces=options.replace))
    return 0


def _clean(options: argparse.Namespace) -> int:
    from lib_pivotal.core.core_tags.cleaning import copy_cleaned
    from lib_pivotal.core.data.dataset_report import read_dataset

    config = _settings(options.config)
    dataset = read_dataset(config)
    _refuse(dataset.problems)
    copied = copy_cleaned(config, dataset, options.into)
    say(
        f"{copied.images} images and {copied.captions} captions are in {printable(options.into, None)}; "
        f"{copied.changed} captions have lost core tags.\n"
    )
    return 0


def _export(options: argparse.Namespace) -> int:
    from lib_pivotal.core.core_tags.export import export_tags

    for path in export_tags(_settings(options.config).concepts, options.into):
        say(f"{printable(path, None)}\n")
    return 0


def _settings(path: Path) -> TrainConfig:
    from lib_pivotal.core.config.io import from_json
    from lib_pivotal.core.config.settings_file import read_settings_file

    return from_json(read_settings_file(path))


def _refuse(problems: tuple[Problem, ...]) -> None:
    if any(problem.is_error for problem in problems):
        raise ConfigError(list(problems))


def _tokenizer(checkpoint: str) -> Callable[[str], list[int]] | None:
    """The tokenizer of the checkpoint, or None if it has none; then words are counted instead of tokens."""
    if not checkpoint.strip():
        return None
    # Imports diffusers, which takes seconds.
    from lib_pivotal.host.diffusers.checkpoint import load_tokenizer

    try:
        tokenizer = load_tokenizer(Path(checkpoint).expanduser())
    except HostError as error:
        say(f"note: {error} Words are counted instead of tokens.\n", is_error=True)
        return None
    return lambda text: list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _write_new(path: Path, config: TrainConfig) -> None:
    from lib_pivotal.core.config.io import to_json

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(to_json(config) + "\n")
    except FileExistsError as error:
        text = "It already exists."
        raise ConfigError([Problem(str(path), "error", text, "Choose a name for a new file.")]) from error
    say(f"Settings: {printable(path, None)}\n")


def _table(plain: Mapping[str, Any]) -> str:
    """Suggestions as text; always printable, whatever the captions contain."""
    if plain["reason"]:
        return f"No core tags are suggested. {plain['reason']}\n"
    lines = [f"{plain['captions']} captions, {plain['prose']} of them in prose and left out.", ""]
    for concept in plain["concepts"]:
        lines += _concept_lines(concept)
    if plain["examples"]:
        lines.append("Captions before and after:")
    for example in plain["examples"]:
        lines.append(f"  {printable(example['image'])}")
        lines += [f"    {key}: {printable(example[key], _MAX_CAPTION_LENGTH)}" for key in ("before", "after")]
    return "\n".join(lines).rstrip() + "\n"


def _concept_lines(concept: Mapping[str, Any]) -> list[str]:
    lines = [f"{printable(concept['name'])}: {concept['images']} images, alone in {concept['alone']}"]
    if concept["tags"]:
        lines.append(f"  {'':6}  {'tag':28} {'class':18} {'count':>5} {'alone':>5} {'other':>5} {'lost':>5}")
    for row in concept["tags"]:
        tag, share, elsewhere = printable(row["tag"], 28), f"{row['share']:.0%}", f"{row['elsewhere']:.0%}"
        numbers = f"{row['count']:5} {share:>5} {elsewhere:>5} {row['removed']:5}"
        lines.append(f"  {row['state']:6}  {tag:28} {printable(row['tag_class'], 18):18} {numbers}")
        if row["hint"]:
            lines.append(f"          {printable(row['hint'], None)}")
    lines.append(f"  Initialization text: {printable(concept['init_text'], None) or '(none)'}")
    lines += [f"  Note: {printable(hint, None)}" for hint in concept["hints"]]
    return [*lines, ""]
