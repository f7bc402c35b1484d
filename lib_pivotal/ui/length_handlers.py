"""What "How long" does; inputs and outputs are passed by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lib_pivotal.app.run_length import plan_length
from lib_pivotal.app.session import Session
from lib_pivotal.core.config.schema import field_info
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.ui.concept_report import REPORT, report_concepts
from lib_pivotal.ui.fields import read_config
from lib_pivotal.ui.length_view import show_length, show_no_length
from lib_pivotal.ui.listener import Outputs, Values

__all__ = ["FACTORS", "LengthHandlers"]

FACTORS = {"length_half": 0.5, "length_full": 1.0, "length_double": 2.0}
"""Button → multiple of the suggested number of steps."""


class LengthHandlers:
    """Every method takes its inputs by name and returns the outputs it changes, by name.

    Args:
        session: knows the images and the pace.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def refresh(self, values: Values) -> Outputs:
        """Show the length of a run with the settings of the tab, and what it means for each name in the table."""
        config, _ = read_config(values)
        shown, table = show_no_length(), None
        if config.data_folder:
            try:
                length = plan_length(self._session, config)
                shown, table = show_length(length.as_dict()), length.table.as_dict()
            except ConfigError as error:
                # Check reports everything; while somebody is typing, one reason is enough.
                shown = show_no_length(error.problems[0].message)
        found = self._session.name_problems(config)
        return {"length": shown, REPORT: report_concepts(values, found, table, is_live=True)}

    def fill_in(self, factor: float) -> Callable[[Values], Outputs]:
        """The handler of a button that fills in a multiple of the suggested number of steps."""

        def handle(values: Values) -> Outputs:
            config, problems = read_config(values)
            if any(problem.is_error for problem in problems):
                raise ConfigError(problems)
            suggested = plan_length(self._session, config).suggested_steps
            steps = max(1, min(round(factor * suggested), field_info()["steps"]["high"]))
            length = plan_length(self._session, replace(config, steps=steps))
            return {"steps": steps, "length": show_length(length.as_dict()), "notice": ""}

        return handle
