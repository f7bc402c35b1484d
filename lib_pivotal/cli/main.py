"""Parses the arguments, runs a command, and reports errors as readable messages."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lib_pivotal import __version__
from lib_pivotal.cli.bundle import add_bundle_commands, add_inspect
from lib_pivotal.cli.console import guarded, say
from lib_pivotal.cli.data import add_data_commands
from lib_pivotal.cli.data_edit import add_edit_commands
from lib_pivotal.cli.data_report import add_report_command
from lib_pivotal.cli.data_tags import add_tag_commands
from lib_pivotal.cli.import_command import add_import
from lib_pivotal.core.errors import PivotalError
from lib_pivotal.core.printable import printable
from lib_pivotal.core.train.out_of_memory import explained

__all__ = ["main", "make_parser", "reported"]

logger = logging.getLogger("pivotal.cli")

_FAILED = 1
_REFUSED = 2
"""Exit codes: an unexpected failure; the input cannot be used (the message says why)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; None uses those of the process.

    Returns:
        0 on success, 2 if the input cannot be used, 1 on any other failure.
    """
    with guarded() as out:
        options = make_parser().parse_args(arguments)
        code = reported(lambda: int(options.run(options)))
        # A pipe closed by its reader is not a failure, and neither is training whose output cannot be shown.
        if out.failure is not None and not out.is_broken_pipe and not code and options.prints:
            reason = getattr(out.failure, "strerror", None) or out.failure
            _print_error(f"Error: The output cannot be written ({reason}).")
            code = _FAILED
    return code


def reported(command: Callable[[], int]) -> int:
    """Run a command and report its errors on stderr, so that none of them ends the program with a traceback.

    Returns:
        The command's exit code; after an error 2 if the input cannot be used, and 1 on any other failure.
    """
    try:
        return command()
    except PivotalError as error:
        logger.debug("input rejected", exc_info=True)
        _print_error(f"Error: {error.message}", error.hint)
        return _REFUSED
    except KeyboardInterrupt:
        say("Interrupted; nothing further was saved.\n", is_error=True)
        return _FAILED
    except Exception as error:
        return _report_failure(error)


def _report_failure(error: Exception) -> int:
    """Report an error: in one sentence if the system caused it, otherwise with a traceback in the log."""
    reason = explained(error, "starting")
    if isinstance(reason, PivotalError):
        _print_error(f"Error: {reason.message}", reason.hint)
    elif isinstance(error, OSError):
        logger.debug("system error", exc_info=True)
        where = f"{error.filename} cannot be read or written" if error.filename else "Reading or writing failed"
        hint = "Check the path, free disk space and write permission."
        _print_error(f"Error: {printable(where, None)} ({error.strerror or error}).", hint)
    else:
        logger.exception("the command failed")
        _print_error(f"Error: unexpected {type(error).__name__}: {error}")
    return _FAILED


def _print_error(*lines: str) -> None:
    # One message is enough if several processes train together.
    if os.environ.get("RANK", "0") == "0":
        say("\n".join(line for line in lines if line) + "\n", is_error=True)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets ``run``, a function of the parsed options that returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lib_pivotal", description="Pivotal tuning of Stable Diffusion 1, 2 and XL without a webui."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(prints=True)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train the embeddings and the LoRA of a settings file")
    train.add_argument(
        "config",
        type=Path,
        nargs="?",
        help="JSON settings file; not needed with --resume, as the run folder contains one",
    )
    train.add_argument(
        "--out",
        type=Path,
        help="folder for the bundle; run folders go to its subfolder runs (default: the current folder)",
    )
    train.add_argument(
        "--resume",
        type=Path,
        metavar="RUN_FOLDER",
        help="continue from the newest state of this run (OUT/runs/NAME-TIME)",
    )
    train.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the GPU if there is one)")
    train.add_argument(
        "--check", action="store_true", help="only list problems with settings, checkpoint, images and output folder"
    )
    train.add_argument("--preset", metavar="NAME", help="settings to start from, see presets; those of CONFIG win")
    train.set_defaults(run=_train)

    add_import(commands)
    add_inspect(commands)
    bundle = commands.add_parser(
        "bundle", help="tools for bundle files: inspect, verify, pack, split, rename, remove, merge, fuse"
    )
    add_bundle_commands(bundle.add_subparsers(required=True, metavar="TOOL"))

    data = commands.add_parser(
        "data", help="tools for data sets: report, captions, tags, clean, export-tags, edit, undo"
    )
    tools = data.add_subparsers(required=True, metavar="TOOL")
    add_report_command(tools)
    add_data_commands(tools)
    add_tag_commands(tools)
    add_edit_commands(tools)
    presets = commands.add_parser("presets", help="list the presets for train --preset")
    presets.set_defaults(run=_print_presets)

    options = commands.add_parser("options", help="print the table of all settings (docs/options.md)")
    options.set_defaults(run=_print_options)
    return parser


def _train(options: argparse.Namespace) -> int:
    # Imported here: torch and diffusers take seconds to import, and --help should be fast.
    from lib_pivotal.cli.resume import find_run, output_folder_of
    from lib_pivotal.cli.train import check_run, read_settings, train_run

    run = None if options.resume is None else find_run(options.resume)
    config, parse_problems = read_settings(options.config, run, options.preset)
    out = options.out or (Path() if run is None else output_folder_of(run))
    if options.check:
        return _REFUSED if check_run(config, parse_problems, out, resume=run) else 0
    options.prints = False
    train_run(config, parse_problems, out, resume=run, device=options.device)
    return 0


def _print_presets(_options: argparse.Namespace) -> int:
    from lib_pivotal.cli.preset_list import preset_list

    say(preset_list())
    return 0


def _print_options(_options: argparse.Namespace) -> int:
    from lib_pivotal.cli.options_table import options_table

    say(options_table())
    return 0
