"""What the buttons of the part "Runs" do; inputs and outputs are passed by name."""

from __future__ import annotations

import gradio as gr

from lib_pivotal.app.run_history import RunHistory
from lib_pivotal.app.session import Session
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import ConfigError, NameTaken, Problem
from lib_pivotal.ui import panels
from lib_pivotal.ui.choice_list import list_again
from lib_pivotal.ui.duration import size
from lib_pivotal.ui.fields import read_config, show_config
from lib_pivotal.ui.handlers import page_status
from lib_pivotal.ui.listener import Outputs, Values
from lib_pivotal.ui.queue_handlers import QueueHandlers, queued_message
from lib_pivotal.ui.runs_view import show_comparison, show_run, show_runs, show_steps
from lib_pivotal.ui.text.runs import RUN_MESSAGES

__all__ = ["LIST_OUTPUTS", "RUN_OUTPUTS", "RunHandlers"]

LIST_OUTPUTS = ("runs_notice", "runs_list", "runs_count", "runs_more", "run", "run_other", "queue_view", "queue_item")
"""Outputs that listing the runs may change."""
RUN_OUTPUTS = (
    "runs_notice",
    "run",
    "run_view",
    "run_steps",
    "run_steps_view",
    "run_step",
    "run_delete_sure",
    "run_delete_steps_sure",
    "run_choose_sure",
)
"""Outputs that selecting a run, or a button for it, may change."""
_PER_PAGE = 20


class RunHandlers:
    """Every method takes its inputs by name and returns the outputs it changes, by name.

    Args:
        session: knows the runs.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._history = RunHistory(session)
        self._queue = QueueHandlers(session)

    def refresh(self, values: Values) -> Outputs:
        """List the runs and the queue again; the selection stays, unless the run no longer exists."""
        return self._list(values, max(int(values["runs_count"] or 0), _PER_PAGE))

    def more(self, values: Values) -> Outputs:
        """List more runs."""
        return self._list(values, int(values["runs_count"] or 0) + _PER_PAGE)

    def _list(self, values: Values, count: int) -> Outputs:
        names = self._history.names()
        runs = self._history.summaries(count)
        outputs: Outputs = {
            "runs_list": show_runs(runs, len(names)),
            "runs_count": count,
            "runs_more": gr.update(visible=len(names) > count),
            **self._queue.refresh(values),
        }
        for name in ("run", "run_other"):
            outputs[name] = list_again(names, values[name])
        return outputs

    def open(self, values: Values) -> Outputs:
        """Select the run whose button in the list was clicked."""
        name = values["runs_name"] or ""
        return {**self._show(name), "run": gr.update(value=name)}

    def look(self, values: Values) -> Outputs:
        """Show the selected run."""
        if not values["run"]:
            return {"runs_notice": "", "run_view": "", "run_steps_view": ""}
        return self._show(values["run"])

    def _show(self, name: str, notice: str = "") -> Outputs:
        run = self._history.one(name)
        steps = [str(item["step"]) for item in run["steps"]]
        best = next((str(item["step"]) for item in run["steps"] if item["is_best"]), None)
        return {
            "runs_notice": notice,
            "run_view": show_run(run),
            "run_steps": run["total_steps"],
            "run_steps_view": show_steps(run),
            "run_step": gr.update(choices=steps, value=best),
            "run_delete_sure": gr.update(visible=False),
            "run_delete_steps_sure": gr.update(visible=False),
            "run_choose_sure": gr.update(visible=False),
        }

    def use(self, values: Values) -> Outputs:
        """Give the page the prompt that uses the run's bundle."""
        run = self._history.one(_run(values))
        missing = RUN_MESSAGES["no_bundle"].format(name=run["name"])
        return {
            "runs_notice": "" if run["words"] else panels.show_message(missing, "bad"),
            "run_words": run["words"],
        }

    def load(self, values: Values) -> Outputs:
        """Fill the run's settings into the training part, and go there."""
        config, problems = self._history.config(_run(values))
        return self._fill_in(config, problems, RUN_MESSAGES["loaded"].format(name=_run(values)))

    def weights(self, values: Values) -> Outputs:
        """Fill in the run's settings for a new run that starts from its bundle."""
        config, problems = self._history.new_from(_run(values))
        return self._fill_in(config, problems, RUN_MESSAGES["weights"].format(name=_run(values)))

    def _fill_in(self, config: TrainConfig, problems: list[Problem], message: str) -> Outputs:
        outputs = show_config(config)
        notice = panels.show_problems(problems) if problems else panels.show_message(message, "good")
        notice += outputs.get("notice", "")
        return {**outputs, "notice": notice, "runs_notice": "", "tabs": gr.update(selected="train")}

    def resume(self, values: Values) -> Outputs:
        """Continue the run now."""
        steps, config = self._continuation(values)
        self._history.resume(_run(values), steps=steps, config=config)
        notice = panels.show_message(RUN_MESSAGES["continued"], "good")
        return {"runs_notice": notice, "notice": notice, **page_status(self._session)}

    def enqueue(self, values: Values) -> Outputs:
        """Add the continuation of the run to the queue."""
        steps, config = self._continuation(values)
        name = _run(values)
        item = self._session.queue.add(
            *self._history.resumed_config(name, steps, config), resume=self._history.folder(name)
        )
        return {**self._queue.refresh(values), "runs_notice": queued_message(self._session, item)}

    def _continuation(self, values: Values) -> tuple[int, TrainConfig | None]:
        """The total number of steps and, if they are wanted, the settings of the training part."""
        given = values["run_steps"] or 0
        if given < 0 or given != int(given):
            raise ConfigError([Problem("run_steps", "error", f"{given} is out of range.", "Use a whole number.")])
        if not values["run_use_fields"]:
            return int(given), None
        config, problems = read_config(values)
        if any(problem.is_error for problem in problems):
            raise ConfigError(problems)
        return int(given), config

    def delete(self, values: Values) -> Outputs:
        """Ask whether to delete the states."""
        run = self._history.summary(_run(values))
        question = RUN_MESSAGES["ask_delete"].format(name=run["name"], size=size(run["states_bytes"]))
        return {"runs_notice": panels.show_message(question), "run_delete_sure": gr.update(visible=True)}

    def delete_sure(self, values: Values) -> Outputs:
        """Delete the states."""
        freed = self._history.delete_states(_run(values))
        notice = panels.show_message(RUN_MESSAGES["deleted"].format(size=size(freed)), "good")
        return self._show(_run(values), notice)

    def delete_steps(self, values: Values) -> Outputs:
        """Ask whether to delete the steps to choose from."""
        run = self._history.summary(_run(values))
        question = RUN_MESSAGES["ask_delete_steps"].format(name=run["name"], size=size(run["steps_bytes"]))
        return {"runs_notice": panels.show_message(question), "run_delete_steps_sure": gr.update(visible=True)}

    def delete_steps_sure(self, values: Values) -> Outputs:
        """Delete the steps to choose from."""
        freed = self._history.delete_steps(_run(values))
        notice = panels.show_message(RUN_MESSAGES["deleted_steps"].format(size=size(freed)), "good")
        return self._show(_run(values), notice)

    def choose(self, values: Values) -> Outputs:
        """Make the selected step the file, or ask whether to replace a file that is not from this run."""
        try:
            return self._choose(values, overwrite=False)
        except NameTaken as error:
            question = RUN_MESSAGES["ask_replace"].format(problem=error.message)
            return {"runs_notice": panels.show_message(question), "run_choose_sure": gr.update(visible=True)}

    def choose_sure(self, values: Values) -> Outputs:
        """Make the selected step the file in place of another one."""
        return self._choose(values, overwrite=True)

    def _choose(self, values: Values, *, overwrite: bool) -> Outputs:
        text = str(values["run_step"] or "")
        if not (text.isascii() and text.isdecimal()):
            raise ConfigError([Problem("run_step", "error", "No step is selected.", "Select one in the list.")])
        path = self._history.choose_step(_run(values), int(text), overwrite=overwrite)
        notice = panels.show_message(RUN_MESSAGES["chosen"].format(path=path, step=text), "good")
        return self._show(_run(values), notice)

    def compare(self, values: Values) -> Outputs:
        """Show two runs side by side."""
        if values["run"] == values["run_other"]:
            problem = Problem("run_other", "error", RUN_MESSAGES["same_run"], "Choose another one here.")
            raise ConfigError([problem])
        compared = self._history.compare(_run(values), values["run_other"] or "")
        return {"runs_notice": "", "run_comparison": show_comparison(compared)}


def _run(values: Values) -> str:
    return values["run"] or ""
