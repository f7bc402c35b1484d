"""The ``import`` command: settings of other training programs as a settings file of ours."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_pivotal.cli.console import say
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.printable import printable, printable_json

if TYPE_CHECKING:
    from lib_pivotal.core.importers.found import ImportResult

__all__ = ["add_import"]


def add_import(commands: Any) -> None:
    """Add ``import``.

    Args:
        commands: return value of ``add_subparsers``.
    """
    command = commands.add_parser(
        "import", help="show the settings of kohya's scripts, HCP-Diffusion or OneTrainer as a settings file"
    )
    command.add_argument("path", type=Path, help="settings file of another program, or a folder of images")
    command.add_argument(
        "--into",
        type=Path,
        metavar="CONFIG",
        help="complete this settings file, in which values other than defaults stay; it is not changed",
    )
    command.add_argument("--write", type=Path, metavar="FILE", help="write the settings to this file instead")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")
    command.set_defaults(run=_import)


def _import(options: argparse.Namespace) -> int:
    from lib_pivotal.core.config.io import read_json, to_dict, to_json
    from lib_pivotal.core.config.settings_file import read_settings_file
    from lib_pivotal.core.importers.import_settings import import_settings
    from lib_pivotal.core.importers.merge import merged

    result = import_settings(options.path.expanduser())
    config = result.config
    if options.into is not None:
        existing, faults = read_json(read_settings_file(options.into))
        if faults:
            raise ConfigError(faults)
        config = merged(existing, result)
    # With --write, nothing but the report is printed; otherwise the settings alone go to the standard output.
    say(_report(result), is_error=options.write is None)
    if options.write is None:
        say(printable_json(to_dict(config)) + "\n")
        return 0
    _write(options.write, to_json(config), overwrite=options.overwrite)
    say(f"Written: {printable(options.write, None)}\n")
    return 0


def _report(result: ImportResult) -> str:
    lines = [f"Found: {result.kind}.", *(f"{problem.severity}: {problem}" for problem in result.problems)]
    if result.unused:
        lines.append("Not used, because they have no meaning here:")
        lines += [f"  {key}" for key in result.unused]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str, *, overwrite: bool) -> None:
    from lib_pivotal.core.atomic_file import replacing

    if os.path.lexists(path) and not overwrite:
        raise ConfigError(
            [Problem(str(path), "error", "The file exists already.", "Use another name, or --overwrite.")]
        )
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
