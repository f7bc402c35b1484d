"""Finds the run folder that ``--resume`` means, and checks whether the run can continue."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path

from lib_pivotal.core.config.io import to_json
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem
from lib_pivotal.core.train.resumed import Resumed
from lib_pivotal.core.train.run_folder import is_in_use
from lib_pivotal.core.train.state import SavedStates, load_newest
from lib_pivotal.core.train.state_facts import changed_settings, facts_problem

__all__ = ["find_run", "output_folder_of", "resume_problems", "resumed_run"]

_GIVE = "Give the run folder, OUT/runs/NAME-TIME."


def find_run(given: Path) -> Path:
    """The run folder, given itself, its ``states`` folder, or any file in either.

    Raises:
        ConfigError: the path is something else or does not exist; says what to give instead.
    """
    try:
        for folder in (given, given.parent, given.parent.parent):
            is_near = folder == given or given.is_file() or given.name == "states"
            if is_near and _is_run(folder):
                return folder
        message, hint = _what_it_is(given)
    except OSError as error:
        message, hint = f"It cannot be read ({error.strerror or error}).", _GIVE
    raise ConfigError([Problem(f"--resume {given}", "error", message, hint)])


def output_folder_of(run: Path) -> Path:
    """The default output folder of a resumed run: ``OUT`` of ``OUT/runs/NAME``, otherwise the current folder."""
    for path in (Path(os.path.abspath(run)), run.resolve()):  # noqa: PTH100  (does not resolve links)
        if path.parent.name == "runs":
            return path.parents[1]
    return Path()


def resume_problems(run: Path, config: TrainConfig) -> list[Problem]:
    """Why a run cannot continue with these settings; data and model are compared only during the run.

    Args:
        run: a run folder.
        config: the settings.
    """
    field = f"--resume {run}"
    # This check locks the folder for a moment, which several processes of one run must not do at once.
    if os.environ.get("RANK", "0") == "0" and is_in_use(run):
        return [Problem(field, "error", "Another process is using this run.", "Wait until it has ended, or stop it.")]
    states = SavedStates(run / "states")
    try:
        state = states.newest()
    except PivotalError as error:
        return [Problem(field, "error", error.message, error.hint)]
    problems = [
        Problem(
            field, "warning", f"{path.name} cannot be used ({reason}).", f"The run continues from step {state.step}."
        )
        for path, reason in states.skipped.items()
    ]
    before = state.facts.get("config")
    after = json.loads(to_json(config))
    return problems + (changed_settings(before, after) if isinstance(before, dict) else [])


def resumed_run(run: Path) -> Resumed | None:
    """What a run keeps from its start; None if its newest state cannot be read, which another check reports."""
    try:
        facts = load_newest(run / "states").facts
    except PivotalError:
        return None
    return None if facts_problem(facts) else Resumed.of(facts)


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run folder; an image folder that happens to contain a config.json is not."""
    if any((folder / "states").glob("state-*.safetensors*")):
        return True
    return (folder / "config.json").is_file() and any((folder / name).exists() for name in ("loss.csv", "log.txt"))


def _what_it_is(given: Path) -> tuple[str, str]:
    """Message and hint for a path that is not a run folder."""
    if not os.path.lexists(given):
        similar = difflib.get_close_matches(given.name, [path.name for path in _runs_in(given.parent)], 1)
        hint = f"Did you mean {given.parent / similar[0]}?" if similar else _GIVE
        return "It does not exist.", hint
    if given.is_file():
        runs = _runs_in(given.parent / "runs", f"{given.stem}-")
        hint = f"Give the run folder, perhaps {runs[-1]}." if runs else _GIVE
        return "This is a file, not a run folder.", hint
    runs = _runs_in(given / "runs") or _runs_in(given)
    hint = f"Give one of its runs, for example {runs[-1]}." if runs else _GIVE
    return "This is not a run folder.", hint


def _runs_in(folder: Path, prefix: str = "") -> list[Path]:
    """Run folders directly in ``folder``, the newest last."""
    try:
        found = [path for path in folder.iterdir() if path.name.startswith(prefix) and _is_run(path)]
        return sorted(found, key=lambda path: path.stat().st_mtime)
    except OSError:
        return []
