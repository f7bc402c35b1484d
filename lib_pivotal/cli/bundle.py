"""The ``bundle`` command: tools for bundle files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_pivotal.cli.console import say
from lib_pivotal.cli.fuse import add_fuse
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.printable import printable

if TYPE_CHECKING:
    from lib_pivotal.core.bundle.file import Written

__all__ = ["add_bundle_commands", "add_inspect"]

_REFUSED = 2


def add_inspect(commands: Any) -> None:
    """Add ``inspect``, which is both a top-level command and a subcommand of ``bundle``."""
    inspect = commands.add_parser("inspect", help="show what a file is and what it contains")
    inspect.add_argument("file", type=Path, help=".safetensors file")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.set_defaults(run=_inspect)


def add_bundle_commands(commands: Any) -> None:
    """Add all subcommands of ``bundle``.

    Args:
        commands: return value of ``add_subparsers``.
    """
    add_inspect(commands)
    verify = commands.add_parser("verify", help="list all problems of a file")
    verify.add_argument("file", type=Path, help=".safetensors file")
    verify.set_defaults(run=_verify)

    pack = commands.add_parser("pack", help="put embedding files into a LoRA")
    pack.add_argument("lora", type=Path, help="LoRA or bundle")
    pack.add_argument(
        "embeddings",
        nargs="+",
        metavar="[NAME=]FILE",
        help="embedding file (.safetensors, .pt, .bin, .pti or an image); NAME replaces the file's own name",
    )
    _add_output(pack, _pack)

    split = commands.add_parser("split", help="write the LoRA and each embedding to separate files")
    split.add_argument("file", type=Path, help="bundle")
    split.add_argument("--out", type=Path, metavar="FOLDER", help="output folder (default: next to the bundle)")
    split.add_argument("--overwrite", action="store_true", help="replace existing files")
    split.set_defaults(run=_split)

    rename = commands.add_parser("rename", help="rename embeddings")
    rename.add_argument("file", type=Path, help="bundle")
    rename.add_argument("names", nargs="+", metavar="OLD=NEW")
    _add_output(rename, _rename)

    remove = commands.add_parser("remove", help="remove embeddings")
    remove.add_argument("file", type=Path, help="bundle")
    remove.add_argument("names", nargs="+", metavar="NAME")
    _add_output(remove, _remove)

    merge = commands.add_parser("merge", help="add one bundle's embeddings to another bundle or LoRA")
    merge.add_argument("file", type=Path, help="bundle or LoRA")
    merge.add_argument("other", type=Path, help="bundle whose embeddings are added; its LoRA is not used")
    _add_output(merge, _merge)

    add_fuse(commands)


def _add_output(command: argparse.ArgumentParser, run: Any) -> None:
    command.add_argument("--out", type=Path, metavar="FILE", required=True, help="new .safetensors file")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")
    command.set_defaults(run=run)


def _inspect(options: argparse.Namespace) -> int:
    from lib_pivotal.cli.inspect import render
    from lib_pivotal.core.bundle.inspection import describe

    say(render(describe(options.file), as_json=options.json) + "\n")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from lib_pivotal.core.bundle.inspection import verify

    problems = verify(options.file)
    _print_problems(problems)
    if not problems:
        say("No problems found.\n")
    return _REFUSED if any(problem.is_error for problem in problems) else 0


def _pack(options: argparse.Namespace) -> int:
    from lib_pivotal.core.bundle.embedding_file import embedding_name
    from lib_pivotal.core.bundle.tools_add import pack

    files: dict[str, Path] = {}
    for text in options.embeddings:
        name, path = _named_file(text)
        name = name or embedding_name(path)
        if name in files:
            problem = "Two of the files have this name."
            raise ConfigError([Problem(printable(name), "error", problem, "Choose another name: NAME=FILE.")])
        files[name] = path
    return _print_written(pack(options.lora, files, options.out, load_other=_load_safely, overwrite=options.overwrite))


def _named_file(text: str) -> tuple[str, Path]:
    """Split ``NAME=FILE``, unless a file with this whole text as its name exists."""
    name, _, path = text.partition("=") if not os.path.lexists(text) else ("", "", text)
    return (name, Path(path)) if path else ("", Path(text))


def _load_safely(path: Path) -> Mapping[str, Any]:
    """Contents of a ``.pt`` or ``.bin`` file, without executing any code that is in it."""
    import torch

    contents = torch.load(str(path), map_location="cpu", weights_only=True)
    if not isinstance(contents, dict):
        raise TypeError("not a dictionary")
    return contents


def _split(options: argparse.Namespace) -> int:
    from lib_pivotal.core.bundle.tools import split

    return _print_written(split(options.file, options.out or options.file.parent, overwrite=options.overwrite))


def _rename(options: argparse.Namespace) -> int:
    from lib_pivotal.core.bundle.tools import rename

    names = {}
    for text in options.names:
        old, equals, new = text.partition("=")
        if not equals:
            raise ConfigError([Problem(text, "error", "This is not OLD=NEW.", "Write, for example, zog=zog_v2.")])
        names[old] = new
    return _print_written(rename(options.file, names, options.out, overwrite=options.overwrite))


def _remove(options: argparse.Namespace) -> int:
    from lib_pivotal.core.bundle.tools import remove

    return _print_written(remove(options.file, options.names, options.out, overwrite=options.overwrite))


def _merge(options: argparse.Namespace) -> int:
    from lib_pivotal.core.bundle.tools_add import merge

    return _print_written(merge(options.file, options.other, options.out, overwrite=options.overwrite))


def _print_written(written: Written) -> int:
    _print_problems(written.problems)
    for path in written.paths:
        say(f"{printable(path, None)}\n")
    return 0


def _print_problems(problems: Iterable[Problem]) -> None:
    for problem in problems:
        say(f"{problem.severity}: {problem}\n")
