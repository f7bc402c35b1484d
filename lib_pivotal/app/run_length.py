"""How long a planned run is: its steps, what each concept gets, and how much time it takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lib_pivotal.app.run_history import RunHistory
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.train.concept_table import ConceptTable, concept_table
from lib_pivotal.core.train.setting_checks import check_settings

if TYPE_CHECKING:
    from lib_pivotal.app.session import Session

__all__ = ["RunLength", "plan_length"]


@dataclass(frozen=True)
class RunLength:
    """The length of a planned run.

    Attributes:
        steps: number of steps.
        suggested_steps: what the calculator suggests, whatever the settings say.
        images: number of images to learn.
        samples: concept → number of samples that show it; an empty name stands for images without a concept.
        seconds_per_step: as measured in this run or in the last one like it; 0 if unknown.
        table: what each concept gets.
    """

    steps: int
    suggested_steps: int
    images: int
    samples: dict[str, int]
    seconds_per_step: float
    table: ConceptTable = field(repr=False)

    @property
    def seconds(self) -> float:
        """Duration of the steps in seconds, including samples; 0 if unknown."""
        return self.steps * self.seconds_per_step

    def as_dict(self) -> dict[str, Any]:
        """Plain values that are serializable as JSON, without the table."""
        values = asdict(self)
        del values["table"]
        return {**values, "seconds": self.seconds}


def plan_length(session: Session, config: TrainConfig) -> RunLength:
    """The length of a run with these settings; no image is decoded.

    Args:
        session: knows the model, the images seen before and the runs.
        config: the settings.

    Raises:
        ConfigError: the settings are out of range, or there are no images.
    """
    problems = [problem for problem in check_settings(config) if problem.is_error]
    dataset = read_dataset(config, cache=session.host.data_root() / "cache", decodes=False)
    problems += [problem for problem in dataset.problems if problem.is_error]
    if problems or not dataset.usable:
        nothing = Problem("data_folder", "error", "There are no images to train.", "Check the folder.")
        raise ConfigError(problems or [nothing])
    family = session.host.family(config)
    table = concept_table(config, dataset.usable, family)
    suggested = table if not config.steps else concept_table(replace(config, steps=0), dataset.usable, family)
    return RunLength(
        steps=table.steps,
        suggested_steps=suggested.steps,
        images=table.images,
        samples={row.name: row.samples for row in table.rows},
        seconds_per_step=RunHistory(session).pace(config, family),
        table=table,
    )
