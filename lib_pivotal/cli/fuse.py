"""The command ``bundle fuse``: several bundles into one that does what each of them did."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_pivotal.cli.console import say
from lib_pivotal.core.atomic_file import free_name
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lib_pivotal.core.fuse.report import BundleReport

__all__ = ["add_fuse"]


def add_fuse(commands: Any) -> None:
    """Add ``fuse`` to the subcommands of ``bundle``."""
    fuse = commands.add_parser("fuse", help="fuse bundles into one that knows the names of all of them")
    fuse.add_argument("files", type=Path, nargs="+", metavar="BUNDLE", help="bundles trained on the same base model")
    fuse.add_argument(
        "--checkpoint", type=Path, required=True, metavar="BASE", help="that model: .safetensors or diffusers folder"
    )
    fuse.add_argument(
        "--data",
        default="",
        metavar="FOLDER",
        help="training images of all bundles, whose captions mention the names (default: short samples of the names)",
    )
    fuse.add_argument("--rank", type=int, default=0, help="of the new LoRA (default: the sum of the ranks)")
    fuse.add_argument("--precision", choices=("auto", "fp32", "fp16", "bf16"), default="auto")
    fuse.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the GPU if there is one)")
    fuse.add_argument("--out", type=Path, metavar="FILE", help="new file (default: A-B.safetensors next to the first)")
    fuse.add_argument("--overwrite", action="store_true", help="replace an existing file")
    fuse.set_defaults(run=_fuse)


def _fuse(options: argparse.Namespace) -> int:
    from lib_pivotal.cli.signals import stopping
    from lib_pivotal.core.bundle.file import refuse_existing
    from lib_pivotal.core.events import Control, Preparing
    from lib_pivotal.core.fuse.fusing import fuse
    from lib_pivotal.core.fuse.source import trained_clip_skip
    from lib_pivotal.core.train.out_of_memory import explaining
    from lib_pivotal.host.diffusers import load
    from lib_pivotal.host.diffusers.checkpoint_check import check_checkpoint
    from lib_pivotal.host.diffusers.progress import ConsoleProgress

    if options.rank < 0:
        raise ConfigError(
            [Problem("--rank", "error", "It must be from 1 on.", "Leave it out for the sum of the ranks.")]
        )
    named = options.files[0].with_name(f"{'-'.join(path.stem for path in options.files)}.safetensors")
    out = options.out or (named if options.overwrite else free_name(named))
    # Loading the model takes long, so that whatever is known to fail does so before.
    refuse_existing([out], overwrite=options.overwrite)
    missing = [path for path in options.files if not path.is_file()]
    problems = [Problem(printable(path.name), "error", "There is no such file.", "Check the path.") for path in missing]
    problems += check_checkpoint(options.checkpoint.expanduser())
    if any(problem.is_error for problem in problems):
        raise ConfigError(problems)
    clip_skip = trained_clip_skip(options.files)
    control = Control()
    with contextlib.closing(ConsoleProgress()) as progress, explaining(lambda: "fusing"):
        model = load(
            options.checkpoint.expanduser(),
            clip_skip=clip_skip,
            precision=options.precision,
            device=options.device,
        )
        with stopping(control, is_first=True, notice="Stopping; no file is written."):
            made = fuse(
                options.files,
                model,
                out,
                rank=options.rank,
                data_folder=options.data,
                overwrite=options.overwrite,
                progress=lambda stage, done, total: progress.handle(Preparing(stage, done, total)),
                stopped=lambda: control.stop_requested,
            )
    for problem in made.problems:
        say(f"{problem.severity}: {problem}\n")
    say(f"{_table(made.report)}\n{printable(made.path, None)}\n")
    return 0


def _table(report: Sequence[BundleReport]) -> str:
    """What is left of each bundle, one line each."""
    lines = ["Difference from each bundle's own LoRA on its inputs, fused and as a plain sum of the LoRAs:"]
    for item in report:
        names = ", ".join(map(printable, item.names))
        kinds = [f"{kind} {fused:.0%} ({plain:.0%})" for kind, (fused, plain) in item.errors().items()]
        lines.append(f"{printable(item.file)} ({names}): {', '.join(kinds)}")
    return "\n".join(lines)
