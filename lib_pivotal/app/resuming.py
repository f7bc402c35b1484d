"""Whether a run can continue from its newest state, as far as that can be known before the model is borrowed."""

from __future__ import annotations

from pathlib import Path

from lib_pivotal.core.config.io import to_dict
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.train.resumed import Resumed
from lib_pivotal.core.train.run_folder import is_in_use
from lib_pivotal.core.train.run_record import read_record
from lib_pivotal.core.train.state_facts import changed_settings, facts_problem
from lib_pivotal.core.train.state_files import newest_facts

__all__ = ["check_resume"]


def check_resume(run: Path, config: TrainConfig) -> tuple[Resumed | None, list[Problem]]:
    """What the run keeps from its start, and why it cannot continue with these settings.

    Images, captions and model are compared when the training begins.

    Args:
        run: the run folder.
        config: the settings.

    Returns:
        None and at least one problem if there is no state to continue from.
    """
    if is_in_use(run):
        return None, [_problem(run, "It is in progress.", "Wait until it has ended, or stop it.")]
    facts = newest_facts(run / "states")
    if not facts:
        hint = "Start a new run from the weights of its bundle."
        return None, [_problem(run, "It has no saved state to continue from.", hint)]
    if reason := facts_problem(facts):
        return None, [_problem(run, f"Its newest state cannot be used ({reason}).", "Start a new run.")]
    problems = changed_settings(facts["config"], to_dict(config))
    resumed = Resumed.of(facts)
    total = config.steps or resumed.steps
    # A run that could not write its bundle at the end may continue just to write it.
    if read_record(run).outcome == "done" and 0 < total <= facts["step"]:
        text = f"This run has finished all of its {facts['step']} steps."
        problems.append(Problem("steps", "error", text, "Enter a larger number of steps to continue it."))
    return resumed, problems


def _problem(run: Path, message: str, hint: str) -> Problem:
    return Problem(run.name, "error", message, hint)
