"""The ``train`` command: from a settings file to a bundle."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lib_pivotal.app.status import words_to_type
from lib_pivotal.cli.console import say
from lib_pivotal.cli.data_report import table_text
from lib_pivotal.cli.resume import resume_problems, resumed_run
from lib_pivotal.cli.signals import stopping
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.presets import with_preset
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.settings_file import parse_settings, read_settings_file
from lib_pivotal.core.config.user_path import check_path
from lib_pivotal.core.errors import ConfigError, HostError, Problem
from lib_pivotal.core.events import Control, Preparing, Warned
from lib_pivotal.core.train.checks import Checked, check
from lib_pivotal.core.train.out_of_memory import explaining
from lib_pivotal.core.train.resumed import with_later_settings
from lib_pivotal.core.train.run import Outcome, train
from lib_pivotal.core.train.run_folder import Folders, guarded, make_run_folder
from lib_pivotal.core.train.run_record import record_end
from lib_pivotal.core.train.setting_checks import with_parse_problems
from lib_pivotal.host.diffusers import load
from lib_pivotal.host.diffusers.checkpoint_check import check_checkpoint
from lib_pivotal.host.diffusers.checkpoint_family import family_of_checkpoint
from lib_pivotal.host.diffusers.distributed import is_first_process, local_device, open_group
from lib_pivotal.host.diffusers.lora_size import values_per_rank
from lib_pivotal.host.diffusers.progress import ConsoleProgress

if TYPE_CHECKING:
    from lib_pivotal.core.ports import SampleMaker
    from lib_pivotal.host.diffusers.model import DiffusersModel

__all__ = ["check_run", "read_settings", "train_run"]

logger = logging.getLogger("pivotal.cli.train")


def read_settings(
    path: Path | None, resume: Path | None, preset: str | None = None
) -> tuple[TrainConfig, list[Problem]]:
    """The settings from a file or a run folder, and the values that could not be read.

    Args:
        path: the settings file.
        resume: run folder whose settings are used if there is no file.
        preset: name of a preset that fills in what the settings leave out.

    Raises:
        ConfigError: there is no such file or preset, or the file is not a JSON object.
    """
    is_own = path is None and resume is not None
    if path is None and resume is not None:
        path = resume / "config.json"
    if path is None:
        raise ConfigError([Problem("config", "error", "No settings file is given.", "Give one, or --resume.")])
    values = parse_settings(read_settings_file(path))
    if is_own:
        values = with_later_settings(values)
    return read_dict(values if preset is None else with_preset(values, preset))


def check_run(config: TrainConfig, parse_problems: Sequence[Problem], out: Path, *, resume: Path | None = None) -> bool:
    """Print all problems of settings, images, checkpoint, output folder and run folder.

    Returns:
        Whether any of them is an error, so that training cannot start.
    """
    checked = _checked(config, parse_problems, out, resume)
    for problem in checked.problems:
        say(f"{problem.severity}: {problem}\n")
    if checked.table is not None:
        say(table_text(checked.table))
    say("Not ready to train.\n" if checked.has_errors else "Ready to train.\n")
    return checked.has_errors


def _checked(
    config: TrainConfig,
    parse_problems: Sequence[Problem],
    out: Path,
    resume: Path | None,
    *,
    progress: ConsoleProgress | None = None,
) -> Checked:
    """The result of the check; with ``progress``, training follows, so that decoded images are kept."""
    tokenizer = None
    missing = _checkpoint_problems(config.checkpoint)
    if not missing:
        # Imports diffusers, which takes seconds.
        from lib_pivotal.host.diffusers.checkpoint import load_tokenizer

        try:
            tokenizer = load_tokenizer(Path(config.checkpoint).expanduser())
        except HostError as error:
            missing.append(Problem("checkpoint", "error", error.message, error.hint))

    def tokenize(text: str) -> list[int]:
        assert tokenizer is not None
        # verbose=False: no warning about more than 77 tokens, since long texts are encoded in chunks.
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def show_reading(done: int, total: int) -> None:
        if progress is not None:
            progress.handle(Preparing("reading images", done, total))

    checked = check(
        config,
        bundles=out,
        taken_names={},
        tokenizer=tokenize if tokenizer else None,
        run_root=resume,
        per_rank=None if missing else values_per_rank(Path(config.checkpoint).expanduser()),
        keeps_images=progress is not None,
        family="" if missing else family_of_checkpoint(Path(config.checkpoint).expanduser()),
        processes=int(os.environ.get("WORLD_SIZE", "1")),
        resumed=resumed_run(resume) if resume is not None else None,
        # A check writes nothing, so only a run creates the folder.
        cache=out / "cache" if progress is not None or (out / "cache").is_dir() else None,
        progress=show_reading,
    )
    found = checked.problems
    if resume is not None:
        # A resumed run overwrites its own bundle.
        found = [problem for problem in found if problem.field != "output_name"] + resume_problems(resume, config)
    return replace(checked, problems=with_parse_problems(parse_problems, missing + found))


def _checkpoint_problems(checkpoint: str) -> list[Problem]:
    if not checkpoint.strip():
        hint = 'Add "checkpoint": a .safetensors file or a diffusers folder.'
        return [Problem("checkpoint", "error", "No model is given.", hint)]
    return check_path("checkpoint", checkpoint) or check_checkpoint(Path(checkpoint).expanduser())


def _sampler(model: DiffusersModel) -> SampleMaker:
    from lib_pivotal.host.diffusers.sample import DiffusersSampler

    # Does not get the Control: the last preview is made even after a stop.
    return DiffusersSampler(model)


def train_run(
    config: TrainConfig,
    parse_problems: Sequence[Problem],
    out: Path,
    *,
    resume: Path | None = None,
    device: str | None = None,
) -> Outcome:
    """Train and report on the console; also in several processes, if a launcher started them.

    Args:
        config: the settings.
        parse_problems: values that could not be read; reported together with all other problems.
        out: folder for the bundle; run folders go to ``out/runs``.
        resume: run folder to continue.
        device: torch device; None uses the GPU if there is one.

    Raises:
        PivotalError: the model cannot be loaded, or see :func:`lib_pivotal.core.train.run.train`.
    """
    checked = None
    if is_first_process():
        with contextlib.closing(ConsoleProgress()) as progress:
            checked = _checked(config, parse_problems, out, resume, progress=progress)
        if checked.has_errors:
            raise ConfigError(checked.problems)
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
        run = resume or group.from_first(make_run_folder(out, config.output_name) if is_first else Path())
        folders = Folders(run=run, bundles=out, cache=out / "cache")
        progress = ConsoleProgress()
        with (
            contextlib.closing(progress),
            _run_folder_guard(folders, progress, is_first=is_first),
            stopping(control, is_first=is_first),
        ):
            try:
                outcome = train(
                    config,
                    model,
                    _sampler(model) if is_first else None,
                    [progress] if is_first else [],
                    control,
                    folders,
                    group=group,
                    resume_from=resume,
                    checked=checked,
                )
            except Exception as error:
                logger.exception("the run failed")
                if is_first:
                    record_end(run, "failed", message=str(error))
                raise
        if is_first:
            record_end(run, outcome.outcome, step=outcome.step)
            _print_result(config, outcome, run)
        return outcome


def _run_folder_guard(folders: Folders, progress: ConsoleProgress, *, is_first: bool) -> AbstractContextManager[None]:
    """Lock the run folder and send tracebacks to its log instead of the console, in the first process only."""
    if not is_first:
        return contextlib.nullcontext()
    return guarded(folders, lambda text: progress.handle(Warned(text)), on_console=False)


def _print_result(config: TrainConfig, outcome: Outcome, run: Path) -> None:
    if outcome.bundle_path is None:
        say("Stopped before the first step; nothing new was saved.\n")
        return
    words = {"done": "Done", "stopped": "Stopped, progress kept"}[outcome.outcome]
    say(
        f"{words} at step {outcome.step}: {outcome.bundle_path}\n"
        f"Type in prompts: {words_to_type(config, outcome.bundle_path.stem)}\n"
        f"Losses, samples and states: {run}\n"
    )
