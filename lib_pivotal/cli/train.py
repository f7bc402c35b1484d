"""``train``: settings file in, bundle out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from lib_pivotal.cli.console import say
from lib_pivotal.cli.resume import resume_problems
from lib_pivotal.cli.signals import stopping
from lib_pivotal.core.bundle.metadata import trigger_words
from lib_pivotal.core.config.checks import check, with_misread
from lib_pivotal.core.config.io import read_json
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import ConfigError, HostError, Problem
from lib_pivotal.core.events import Control, Warned
from lib_pivotal.core.train.out_of_memory import explaining
from lib_pivotal.core.train.run import Outcome, train
from lib_pivotal.core.train.run_folder import Folders, guarded, make_run_folder
from lib_pivotal.host.diffusers import load
from lib_pivotal.host.diffusers.checkpoint import load_tokenizer
from lib_pivotal.host.diffusers.distributed import from_first, local_device, open_group
from lib_pivotal.host.diffusers.lora_size import values_per_rank
from lib_pivotal.host.diffusers.progress import ConsoleProgress
from lib_pivotal.host.diffusers.sample import DiffusersSampler

__all__ = ["check_run", "read_settings", "train_run"]

logger = logging.getLogger("pivotal.cli.train")


def read_settings(path: Path | None, resume: Path | None) -> tuple[TrainConfig, list[Problem]]:
    """Settings of a file, or those that a run folder keeps, and what could not be read of them.

    Raises:
        ConfigError: there is no such file, or it is no JSON object.
    """
    if path is None and resume is not None:
        path = resume / "config.json"
    if path is None:
        raise ConfigError([Problem("config", "error", "No settings file is given.", "Give one, or --resume.")])
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError([Problem(str(path), "error", f"It cannot be read ({reason}).", "Check the path.")]) from error
    return read_json(text)


def check_run(config: TrainConfig, misread: Sequence[Problem], out: Path, *, resume: Path | None = None) -> bool:
    """Print every problem of settings, images, checkpoint, output and run folder.

    Returns:
        Whether one of them prevents the start.
    """
    problems = with_misread(misread, _problems(config, out, resume))
    for problem in problems:
        say(f"{problem.severity}: {problem}\n")
    is_bad = any(problem.is_error for problem in problems)
    say("Not ready to train.\n" if is_bad else "Ready to train.\n")
    return is_bad


def _problems(config: TrainConfig, out: Path, resume: Path | None) -> list[Problem]:
    tokenizer = None
    missing = []
    if not config.checkpoint.strip():
        hint = 'Add "checkpoint": a .safetensors file or a diffusers folder.'
        missing.append(Problem("checkpoint", "error", "No model is given.", hint))
    else:
        try:
            tokenizer = load_tokenizer(Path(config.checkpoint).expanduser())
        except HostError as error:
            missing.append(Problem("checkpoint", "error", error.message, error.hint))

    def tokenize(text: str) -> list[int]:
        assert tokenizer is not None
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    found = check(
        config,
        bundles=out,
        taken_names={},
        tokenizer=tokenize if tokenizer else None,
        run_root=resume,
        per_rank=None if missing else values_per_rank(Path(config.checkpoint).expanduser()),
    )
    if resume is None:
        return missing + found
    # A run that goes on writes over its own bundle.
    found = [problem for problem in found if problem.field != "output_name"]
    return missing + found + resume_problems(resume, config)


def train_run(
    config: TrainConfig,
    misread: Sequence[Problem],
    out: Path,
    *,
    resume: Path | None = None,
    device: str | None = None,
) -> Outcome:
    """Train and tell on the console; several processes when a launcher started them.

    Args:
        config: the settings.
        misread: what could not be read of them; refused together with all else that is wrong.
        out: folder of the bundle; runs go to ``out/runs``.
        resume: run folder to go on from.
        device: torch device; None takes the GPU where there is one.

    Raises:
        PivotalError: as of :func:`lib_pivotal.core.train.run.train`, or the model cannot be loaded.
    """
    problems = with_misread(misread, _problems(config, out, resume))
    if any(problem.is_error for problem in problems):
        raise ConfigError(problems)
    with explaining(lambda: "loading the model"):
        model = load(
            Path(config.checkpoint).expanduser(),
            clip_skip=config.clip_skip,
            precision=config.precision,
            device=local_device(device),
        )
    control = Control()
    with open_group(model.device) as group:
        is_first = group.rank == 0
        run = resume or from_first(group, make_run_folder(out, config.output_name) if is_first else Path())
        folders = Folders(run=run, bundles=out, cache=out / "cache")
        progress = ConsoleProgress()
        with (
            contextlib.closing(progress),
            _frame(folders, progress, is_first=is_first),
            stopping(control, is_first=is_first),
        ):
            try:
                outcome = train(
                    config,
                    model,
                    # Not stopped by Control: the last preview is made after a stop too.
                    DiffusersSampler(model) if is_first else None,
                    [progress] if is_first else [],
                    control,
                    folders,
                    group=group,
                    resume_from=resume,
                )
            except Exception:
                logger.exception("the run failed")
                raise
        if is_first:
            _tell(config, outcome, run)
        return outcome


def _frame(folders: Folders, progress: ConsoleProgress, *, is_first: bool) -> AbstractContextManager[None]:
    """What guards the run folder; tracebacks go to its log and not to the console. Only the first process writes."""
    if not is_first:
        return contextlib.nullcontext()
    return guarded(folders, lambda text: progress.handle(Warned(text)), on_console=False)


def _tell(config: TrainConfig, outcome: Outcome, run: Path) -> None:
    if outcome.bundle_path is None:
        if outcome.outcome == "stopped":
            say("Stopped before the first step; there is nothing to keep.\n")
            return
        say(f"Ended at step {outcome.step} ({outcome.outcome}); no bundle was written.\n")
        return
    words = {"done": "Done", "stopped": "Stopped, result kept"}[outcome.outcome]
    name = outcome.bundle_path.stem
    say(
        f"{words} at step {outcome.step}: {outcome.bundle_path}\n"
        f"Type in prompts: <lora:{name}:1> {trigger_words(config)}\n"
        f"Losses, samples and states: {run}\n"
    )
