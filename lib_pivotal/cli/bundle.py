"""``bundle``: tools for bundle files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.printable import printable

if TYPE_CHECKING:
    from lib_pivotal.core.bundle.file import Written

__all__ = ["add_bundle_commands", "add_inspect"]

_REFUSED = 2


def add_inspect(commands: Any) -> None:
    """Add ``inspect``, which is a command of its own and one of ``bundle``."""
    inspect = commands.add_parser("inspect", help="say what a file is and what it holds")
    inspect.add_argument("file", type=Path, help=".safetensors file")
    inspect.add_argument("--json", action="store_true", help="as JSON")
    inspect.set_defaults(run=_inspect)


def add_bundle_commands(commands: Any) -> None:
    """Add all of them.

    Args:
        commands: what ``add_subparsers`` returned.
    """
    add_inspect(commands)
    verify = commands.add_parser("verify", help="say everything that is wrong with a file")
    verify.add_argument("file", type=Path, help=".safetensors file")
    verify.set_defaults(run=_verify)

    pack = commands.add_parser("pack", help="put embedding files into a LoRA")
    pack.add_argument("lora", type=Path, help="LoRA or bundle")
    pack.add_argument(
        "embeddings",
        nargs="+",
        metavar="[NAME=]FILE",
        help="embedding, .safetensors, .pt, .bin, .pti or an image; the name is the file's own unless another is given",
    )
    _add_output(pack, _pack)

    split = commands.add_parser("split", help="write the LoRA alone and each embedding as an ordinary file")
    split.add_argument("file", type=Path, help="bundle")
    split.add_argument("--out", type=Path, metavar="FOLDER", help="where to (default: next to the bundle)")
    split.add_argument("--overwrite", action="store_true", help="replace existing files")
    split.set_defaults(run=_split)

    rename = commands.add_parser("rename", help="give embeddings other names")
    rename.add_argument("file", type=Path, help="bundle")
    rename.add_argument("names", nargs="+", metavar="OLD=NEW")
    _add_output(rename, _rename)

    remove = commands.add_parser("remove", help="leave embeddings out")
    remove.add_argument("file", type=Path, help="bundle")
    remove.add_argument("names", nargs="+", metavar="NAME")
    _add_output(remove, _remove)

    merge = commands.add_parser("merge", help="add one bundle's embeddings to another bundle or LoRA")
    merge.add_argument("file", type=Path, help="bundle or LoRA")
    merge.add_argument("other", type=Path, help="bundle whose embeddings are added; its LoRA is not used")
    _add_output(merge, _merge)


def _add_output(command: argparse.ArgumentParser, run: Any) -> None:
    command.add_argument("--out", type=Path, metavar="FILE", required=True, help="new .safetensors file")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")
    command.set_defaults(run=run)


def _inspect(options: argparse.Namespace) -> int:
    from lib_pivotal.cli.inspect import render
    from lib_pivotal.core.bundle.inspection import describe

    sys.stdout.write(render(describe(options.file), as_json=options.json) + "\n")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from lib_pivotal.core.bundle.inspection import verify

    problems = verify(options.file)
    _print_problems(problems)
    if not problems:
        sys.stdout.write("No problems found.\n")
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
            raise ConfigError([Problem(printable(name), "error", problem, "Give another: NAME=FILE.")])
        files[name] = path
    return _tell(pack(options.lora, files, options.out, load_other=_load_safely, overwrite=options.overwrite))


def _named_file(text: str) -> tuple[str, Path]:
    """The two parts of ``NAME=FILE``; a file whose own name has an equals sign is meant as a whole if it is there."""
    name, _, path = text.partition("=") if not os.path.lexists(text) else ("", "", text)
    return (name, Path(path)) if path else ("", Path(text))


def _load_safely(path: Path) -> Mapping[str, Any]:
    """Contents of a ``.pt`` or ``.bin`` file; torch refuses to run anything that is in it."""
    import torch

    contents = torch.load(str(path), map_location="cpu", weights_only=True)
    if not isinstance(contents, dict):
        raise TypeError("not a dictionary")
    return contents


def _split(options: argparse.Namespace) -> int:
    from lib_pivotal.core.bundle.tools import split

    return _tell(split(options.file, options.out or options.file.parent, overwrite=options.overwrite))


def _rename(options: argparse.Namespace) -> int:
    from lib_pivotal.core.bundle.tools import rename

    names = {}
    for text in options.names:
        old, equals, new = text.partition("=")
        if not equals:
            raise ConfigError([Problem(text, "error", "This is not OLD=NEW.", "Write, for example, zog=zog_v2.")])
        names[old] = new
    return _tell(rename(options.file, names, options.out, overwrite=options.overwrite))


def _remove(options: argparse.Namespace) -> int:
    from lib_pivotal.core.bundle.tools import remove

    return _tell(remove(options.file, options.names, options.out, overwrite=options.overwrite))


def _merge(options: argparse.Namespace) -> int:
    from lib_pivotal.core.bundle.tools_add import merge

    return _tell(merge(options.file, options.other, options.out, overwrite=options.overwrite))


def _tell(written: Written) -> int:
    _print_problems(written.problems)
    for path in written.paths:
        sys.stdout.write(f"{printable(path, None)}\n")
    return 0


def _print_problems(problems: Iterable[Problem]) -> None:
    for problem in problems:
        sys.stdout.write(f"{problem.severity}: {problem}\n")
