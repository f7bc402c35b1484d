"""The past runs: what their folders say, and what can be done with them. Damaged folders never raise here."""

from __future__ import annotations

import datetime
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_pivotal.app.run_queue import Busy
from lib_pivotal.core.atomic_file import free_name
from lib_pivotal.core.config.io import read_dict, to_dict
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.settings_file import parse_settings, read_settings_file
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem
from lib_pivotal.core.printable import printable
from lib_pivotal.core.train.recorder import read_last_losses, read_losses, read_validation
from lib_pivotal.core.train.resumed import with_later_settings
from lib_pivotal.core.train.run_folder import is_in_use
from lib_pivotal.core.train.run_record import RunRecord, read_record
from lib_pivotal.core.train.state_facts import MAY_CHANGE
from lib_pivotal.core.train.state_files import remove_states, state_files
from lib_pivotal.core.train.step_bundles import newest_bundle, step_bundles

if TYPE_CHECKING:
    from lib_pivotal.app.session import Session

__all__ = ["MAY_CHANGE", "RunHistory"]

logger = logging.getLogger("pivotal.history")

_STAMP = re.compile(r"-(\d{8}-\d{6})(?:-\d+)?")
_SAMPLE = re.compile(r"step-(\d{6,12})-(\d{1,4})\.png")
_SIGNS = ("run.json", "config.json", "loss.csv", "log.txt", "states", "samples")
"""A folder is a run if it has one of these."""
_MAX_POINTS = 500
_SMOOTHED = 50
"""How many of the last losses are averaged."""
_STATES = {"done": "finished", "stopped": "stopped", "discarded": "discarded", "failed": "failed"}


class RunHistory:
    """Lists the runs of the data folder; runs are given by the names of their folders.

    Args:
        session: knows the data folder and the run that is on.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def names(self) -> list[str]:
        """Names of all run folders, the newest first."""
        return list(self._folders())

    def summaries(self, count: int = 1000, first: int = 0) -> list[dict[str, Any]]:
        """Some runs, the newest first, see :meth:`summary`.

        Args:
            count: maximum number of runs.
            first: how many of the newest to leave out.
        """
        chosen = list(self._folders().items())[first : first + count]
        return [self._summary(name, folder)[0] for name, folder in chosen]

    def summary(self, name: str) -> dict[str, Any]:
        """A run in a few plain values; those that are unknown are None or empty.

        Raises:
            ConfigError: there is no such run.
        """
        return self._summary(name, self.folder(name))[0]

    def one(self, name: str) -> dict[str, Any]:
        """A run as plain values: its summary with settings, curves, samples and the steps to choose from.

        Raises:
            ConfigError: there is no such run.
        """
        folder = self.folder(name)
        values, config = self._summary(name, folder)
        losses = _tried(lambda: read_losses(folder), [])
        validation = _tried(lambda: read_validation(folder), [])
        samples = _samples(folder)
        return {
            **values,
            "config": to_dict(config) if config is not None else None,
            "losses": _thin_out(losses),
            "validation": [dict.fromkeys(("caption", "name_only", "initialization")) | row for row in validation],
            "samples": samples,
            "steps": self._steps(folder, validation, samples),
        }

    def folder(self, name: str) -> Path:
        """The folder of a run.

        Raises:
            ConfigError: there is no such run.
        """
        folders = self._folders()
        if name not in folders:
            text = f"There is no run {printable(name, 200)}." if name else "No run is selected."
            raise ConfigError([Problem("run", "error", text, "Choose one in the list of runs.")])
        return folders[name]

    def config(self, name: str) -> tuple[TrainConfig, list[Problem]]:
        """The settings of a run, and the values that this release cannot read.

        Raises:
            ConfigError: there is no such run, or its settings are missing or damaged.
        """
        return read_dict(self._values(name))

    def _values(self, name: str) -> Any:
        return parse_settings(read_settings_file(self.folder(name) / "config.json"))

    def resume(self, name: str, *, steps: int = 0, config: TrainConfig | None = None) -> str:
        """Continue a run from its newest state; returns the task id.

        Args:
            name: of the run.
            steps: new total number of steps; 0 keeps it.
            config: changed settings; None uses those of the run.

        Raises:
            ConfigError: it cannot continue with these settings.
            Busy: training is already running.
        """
        return self._session.start(*self.resumed_config(name, steps, config), resume=self.folder(name))

    def resumed_config(
        self, name: str, steps: int = 0, config: TrainConfig | None = None
    ) -> tuple[TrainConfig, list[Problem]]:
        """The settings with which a run continues, see :meth:`resume`, and the values that cannot be read.

        Raises:
            ConfigError: there is no such run, or its settings are missing or damaged.
        """
        given, problems = (config, []) if config is not None else read_dict(with_later_settings(self._values(name)))
        # If several steps have been recorded, the run keeps their number unless another one is asked for.
        return (replace(given, steps=steps) if steps else given), problems

    def new_from(self, name: str) -> tuple[TrainConfig, list[Problem]]:
        """Settings of a new run that starts from the bundle of a run, and the values that cannot be read.

        Raises:
            ConfigError: there is no such run, or its settings or its bundle are missing.
        """
        config, problems = self.config(name)
        loras = self._session.host.lora_folder()
        bundle = newest_bundle(self.folder(name), loras)
        if bundle is None:
            hint = "Choose a run whose bundle is still in the Lora folder."
            raise ConfigError([Problem("run", "error", "The bundle of this run is gone.", hint)])
        free = free_name(loras / f"{config.output_name}.safetensors")
        return replace(config, start_from=str(bundle), output_name=free.stem), problems

    def delete_states(self, name: str) -> int:
        """Delete the states of a run; the bundles and everything else stay.

        Returns:
            Number of bytes that are free now.

        Raises:
            ConfigError: there is no such run.
            PivotalError: the run is in progress, or a file cannot be deleted.
        """
        folder = self.folder(name)
        if self._is_running(folder):
            raise Busy("This run is in progress.", hint="Wait until it has ended, or stop it.")
        try:
            return remove_states(folder / "states")
        except OSError as error:
            message = f"{error.filename} cannot be deleted ({error.strerror or error})."
            raise PivotalError(message, hint="Close programs that use it, and try again.") from error

    def choose_step(self, name: str, step: int, *, overwrite: bool = False) -> Path:
        """Make the bundle of a step the final file, see ``core.train.chosen_step``.

        Raises:
            ConfigError: there is no such run or step.
            NameTaken: another file has the final name.
            BundleError: a file cannot be read or written.
            Busy: training is running.
        """
        folder = self.folder(name)
        if self._session.is_active:
            raise Busy("Training is running, and it uses the list of LoRAs.", hint="Choose the step when it has ended.")
        # Imports torch, without which the application starts.
        from lib_pivotal.core.train.chosen_step import choose_step

        host = self._session.host
        with host.exclusive("task(pivotal-choose)"):
            path = choose_step(folder, host.lora_folder(), step, overwrite=overwrite)
            host.bundle_written(path)
        return path

    def compare(self, first: str, second: str) -> dict[str, Any]:
        """Two runs side by side: ``runs`` (see :meth:`one`) and ``differences`` of their settings.

        Raises:
            ConfigError: there is no such run.
        """
        runs = [self.one(first), self.one(second)]
        before, after = (run["config"] or {} for run in runs)
        names = [*before, *(name for name in after if name not in before)]
        differences = [
            {"setting": name, "values": [before.get(name), after.get(name)]}
            for name in names
            if before.get(name) != after.get(name)
        ]
        return {"runs": runs, "differences": differences}

    def pace(self, config: TrainConfig, family: str) -> float:
        """Seconds per step, including samples, measured in the current or else in the newest run like this one.

        Args:
            config: settings of the planned run.
            family: family of its model.

        Returns:
            0 if there is no such run.
        """
        run = self._session.active_run
        if run is not None and run.measured_pace and _cost(run.config) == _cost(config):
            return run.measured_pace
        for folder in self._folders().values():
            record = read_record(folder)
            if record.seconds_per_step and record.family == family:
                other = _config_of(folder)[0]
                if other is not None and _cost(other) == _cost(config):
                    return record.seconds_per_step
        return 0.0

    def _folders(self) -> dict[str, Path]:
        try:
            found = [path for path in (self._session.host.data_root() / "runs").iterdir() if path.is_dir()]
            active = self._session.active_folder
            found = [path for path in found if path == active or any((path / name).exists() for name in _SIGNS)]
            dated = sorted(((_date(path), path.name, path) for path in found), reverse=True)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                logger.warning("the runs cannot be listed: %s", error)
            return {}
        return {printable(path.name, None): path for _, _, path in dated}

    def _is_running(self, folder: Path) -> bool:
        return self._session.active_folder == folder or is_in_use(folder)

    def _summary(self, name: str, folder: Path) -> tuple[dict[str, Any], TrainConfig | None]:
        record = read_record(folder)
        config, problem = _config_of(folder)
        losses = _tried(lambda: read_last_losses(folder), [])
        validation = _tried(lambda: read_validation(folder), [])
        states = state_files(folder / "states")
        samples = _samples(folder)
        step = max(losses[-1][0] if losses else 0, record.step)
        total = record.total_steps or (config.steps if config is not None else 0)
        last = [loss for _, loss in losses[-_SMOOTHED:]]
        return {
            "name": name,
            "output_name": config.output_name if config is not None else "",
            "model": record.model_name,
            "family": record.family,
            "date": _date(folder).isoformat(timespec="seconds"),
            "step": step,
            "total_steps": total,
            "loss": sum(last) / len(last) if last else None,
            "validation": validation[-1]["caption"] if validation else None,
            "state": "running" if self._is_running(folder) else _state(record, step, total),
            "message": record.message,
            "problem": problem,
            "sample": samples[-1]["path"] if samples else None,
            "states": [number for number, _ in states],
            "states_bytes": sum(_size(path) for _, path in states),
            "folder": str(folder),
        }, config

    def _steps(
        self, folder: Path, validation: Sequence[Mapping[str, float]], samples: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """The steps whose bundles were kept; the one with the least validation loss is marked."""
        measured = {int(row["step"]): row["caption"] for row in validation}
        steps = [
            {
                "step": step,
                "file": printable(path.name, None),
                "validation": measured.get(step),
                "samples": [sample["path"] for sample in samples if sample["step"] == step],
                "is_best": False,
            }
            for step, path in _tried(lambda: step_bundles(folder, self._session.host.lora_folder()), {}).items()
        ]
        known = [item for item in steps if item["validation"] is not None]
        if len(known) > 1:
            min(known, key=lambda item: item["validation"])["is_best"] = True
        return steps


def _config_of(folder: Path) -> tuple[TrainConfig | None, str]:
    """The settings of a run, and why they cannot be read."""
    try:
        config, problems = read_dict(parse_settings(read_settings_file(folder / "config.json")))
    except (ConfigError, OSError) as error:
        return None, str(error)
    return config, "; ".join(map(str, problems))


def _state(record: RunRecord, step: int, total: int) -> str:
    if record.outcome:
        return _STATES.get(record.outcome, "interrupted")
    # Runs of earlier releases have no record.
    is_old_and_complete = not record.family and 0 < total <= step
    return "finished" if is_old_and_complete else "interrupted"


def _cost(config: TrainConfig) -> tuple[Any, ...]:
    """What the time of a step depends on most."""
    return (
        config.resolution,
        config.batch_size,
        config.accumulation,
        config.memory,
        config.gradient_checkpointing,
        config.text_encoder_rank > 0,
    )


def _samples(folder: Path) -> list[dict[str, Any]]:
    """The sample images: step, index and path, in this order."""
    try:
        files = [(match, path) for path in (folder / "samples").iterdir() if (match := _SAMPLE.fullmatch(path.name))]
    except OSError:
        return []
    found = [{"step": int(match[1]), "index": int(match[2]), "path": str(path)} for match, path in files]
    return sorted(found, key=lambda sample: (sample["step"], -sample["index"]))


def _date(folder: Path) -> datetime.datetime:
    """When the run began, by its name, or when the folder changed last."""
    match = _STAMP.search(folder.name)
    try:
        if match:
            return datetime.datetime.strptime(match[1], "%Y%m%d-%H%M%S").astimezone()
        return datetime.datetime.fromtimestamp(folder.stat().st_mtime).astimezone()
    except (ValueError, OSError, OverflowError):
        return datetime.datetime.fromtimestamp(0).astimezone()


def _size(path: Path) -> int:
    return int(_tried(lambda: path.stat().st_size, 0))


def _tried(read: Any, otherwise: Any) -> Any:
    """What ``read`` returns; ``otherwise`` if the files are damaged."""
    try:
        return read()
    except (OSError, ValueError, KeyError, OverflowError):
        logger.warning("a file of a run cannot be read", exc_info=True)
        return otherwise


def _thin_out(points: Sequence[tuple[int, float]]) -> list[list[float]]:
    """At most 500 points: the last step of each range and its mean loss."""
    stride = -(-len(points) // _MAX_POINTS) or 1
    ranges = [points[start : start + stride] for start in range(0, len(points), stride)]
    return [[part[-1][0], sum(loss for _, loss in part) / len(part)] for part in ranges]
