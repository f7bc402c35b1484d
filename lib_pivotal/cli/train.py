"""``train``: settings file in, bundle out."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib_pivotal.core.bundle.metadata import trigger_words
from lib_pivotal.core.config.io import read_json
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import ConfigError, HostError, Problem
from lib_pivotal.core.events import Control
from lib_pivotal.core.train.checks import Checked, check, with_misread
from lib_pivotal.core.train.run import Outcome, train
from lib_pivotal.host.diffusers import load
from lib_pivotal.host.diffusers.checkpoint import load_tokenizer
from lib_pivotal.host.diffusers.distributed import is_first_process, local_device, open_group
from lib_pivotal.host.diffusers.paths import folders_for, new_run_folder
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


def check_run(config: TrainConfig, misread: Sequence[Problem], out: Path, *, resumes: bool = False) -> bool:
    """Print every problem of settings, pictures and checkpoint; return whether one prevents the start."""
    checked = _checked(config, misread, out, resumes=resumes)
    for problem in checked.problems:
        sys.stdout.write(f"{problem.severity}: {problem}\n")
    sys.stdout.write("Not ready to train.\n" if checked.has_errors else "Ready to train.\n")
    return checked.has_errors


def _checked(
    config: TrainConfig, misread: Sequence[Problem], out: Path, *, resumes: bool, keeps_images: bool = False
) -> Checked:
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
        # Without a word about texts longer than the model's 77 tokens, which are encoded in pieces.
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    checked = check(
        config,
        bundles=out,
        taken_names={},
        tokenizer=tokenize if tokenizer else None,
        keeps_images=keeps_images,
    )
    # A run that goes on writes over its own bundle.
    found = [problem for problem in checked.problems if not (resumes and problem.field == "output_name")]
    return replace(checked, problems=with_misread(misread, missing + found))


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
    checked = None
    if is_first_process():
        checked = _checked(config, misread, out, resumes=resume is not None, keeps_images=True)
        if checked.has_errors:
            raise ConfigError(checked.problems)
    model = load(
        Path(config.checkpoint).expanduser(),
        clip_skip=config.clip_skip,
        precision=config.precision,
        device=local_device(device),
    )
    control = Control()
    with open_group(model.device) as group:
        is_first = group.rank == 0
        run = resume or group.from_first(new_run_folder(out, config.output_name) if is_first else Path())
        progress = ConsoleProgress()
        with _logged(run, is_first=is_first), _stopping(control, is_first=is_first), contextlib.closing(progress):
            try:
                outcome = train(
                    config,
                    model,
                    # Not stopped by Control: the last preview is made after a stop too.
                    DiffusersSampler(model) if is_first else None,
                    [progress] if is_first else [],
                    control,
                    folders_for(out, run),
                    group=group,
                    resume_from=resume,
                    checked=checked,
                )
            except Exception:
                logger.exception("the run failed")
                raise
        if is_first:
            _tell(config, outcome, run)
        return outcome


def _tell(config: TrainConfig, outcome: Outcome, run: Path) -> None:
    if outcome.bundle_path is None:
        if outcome.outcome == "stopped":
            sys.stdout.write("Stopped before the first step; there is nothing to keep.\n")
            return
        sys.stdout.write(f"Ended at step {outcome.step} ({outcome.outcome}); no bundle was written.\n")
        return
    words = {"done": "Done", "stopped": "Stopped, result kept"}[outcome.outcome]
    name = outcome.bundle_path.stem
    sys.stdout.write(
        f"{words} at step {outcome.step}: {outcome.bundle_path}\n"
        f"Type in prompts: <lora:{name}:1> {trigger_words(config)}\n"
        f"Losses, samples and states: {run}\n"
    )


@contextlib.contextmanager
def _logged(run: Path, *, is_first: bool) -> Iterator[None]:
    """Within the context our log goes to the run's ``log.txt``; tracebacks are there and not on the console."""
    if not is_first:
        yield
        return
    root = logging.getLogger("pivotal")
    handler = logging.FileHandler(run / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    level, passes_on = root.level, root.propagate
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        root.propagate = passes_on
        handler.close()


@contextlib.contextmanager
def _stopping(control: Control, *, is_first: bool) -> Iterator[None]:
    """Within the context Ctrl-C stops the run and keeps the result; a second one ends the process."""

    def stop(_signal: int, _frame: Any) -> None:
        control.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if is_first:
            sys.stderr.write("\nStopping after this step; the result is kept. Ctrl-C again ends at once.\n")

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
