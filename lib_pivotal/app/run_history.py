"""The past runs: finds them, and does what can be done with them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_pivotal.app.run_facts import RunFolder, date_of, is_run
from lib_pivotal.app.run_queue import Busy
from lib_pivotal.core.atomic_file import free_name
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.settings_file import parse_settings, read_settings_file
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem
from lib_pivotal.core.printable import printable
from lib_pivotal.core.train.resumed import with_later_settings
from lib_pivotal.core.train.run_folder import is_in_use
from lib_pivotal.core.train.run_record import read_record
from lib_pivotal.core.train.state_facts import MAY_CHANGE
from lib_pivotal.core.train.state_files import remove_states
from lib_pivotal.core.train.step_bundles import final_bundle, newest_weights, remove_kept_bundles

if TYPE_CHECKING:
    from lib_pivotal.app.session import Session

__all__ = ["MAY_CHANGE", "RunHistory"]

logger = logging.getLogger("pivotal.history")


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
        return [self._read(name, folder).summary() for name, folder in chosen]

    def summary(self, name: str) -> dict[str, Any]:
        """A run in a few plain values, see :meth:`RunFolder.summary`.

        Raises:
            ConfigError: there is no such run.
        """
        return self._read(name, self.folder(name)).summary()

    def one(self, name: str) -> dict[str, Any]:
        """Everything about a run as plain values, see :meth:`RunFolder.everything`.

        Raises:
            ConfigError: there is no such run.
        """
        return self._read(name, self.folder(name)).everything()

    def _read(self, name: str, folder: Path) -> RunFolder:
        return RunFolder(folder, name, self._session.host.lora_folder(), is_running=self._is_running(folder))

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
        """Settings of a new run that starts from the weights of a run, and the values that cannot be read.

        Its bundle counts first, because a step may have been chosen; then the newest of its kept steps and states.

        Raises:
            ConfigError: there is no such run, its settings are missing, or it has no weights.
        """
        config, problems = self.config(name)
        folder, loras = self.folder(name), self._session.host.lora_folder()
        weights = final_bundle(folder, loras) or newest_weights(folder, loras)
        if weights is None:
            text = "This run has no weights: its bundle is gone, and it has no saved state and no step to choose from."
            raise ConfigError([Problem("run", "error", text, "Choose another run.")])
        free = free_name(loras / f"{config.output_name}.safetensors")
        return replace(config, start_from=str(weights), output_name=free.stem), problems

    def delete_states(self, name: str) -> int:
        """Delete the states of a run; the bundles and everything else stay.

        Returns:
            Number of bytes freed.

        Raises:
            ConfigError: there is no such run.
            PivotalError: the run is in progress, or a file cannot be deleted.
        """
        return self._delete(name, lambda folder: remove_states(folder / "states"))

    def delete_steps(self, name: str) -> int:
        """Delete the bundles to choose from in the folder of a run; those in the Lora folder stay.

        Returns:
            Number of bytes freed.

        Raises:
            ConfigError: there is no such run.
            PivotalError: the run is in progress, or a file cannot be deleted.
        """
        return self._delete(name, remove_kept_bundles)

    def _delete(self, name: str, delete: Callable[[Path], int]) -> int:
        folder = self.folder(name)
        if self._is_running(folder):
            raise Busy("This run is in progress.", hint="Wait until it has ended, or stop it.")
        try:
            return delete(folder)
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
        for other_name, folder in self._folders().items():
            record = read_record(folder)
            if record.seconds_per_step and record.family == family:
                other = self._read(other_name, folder).config()[0]
                if other is not None and _cost(other) == _cost(config):
                    return record.seconds_per_step
        return 0.0

    def _folders(self) -> dict[str, Path]:
        try:
            found = [path for path in (self._session.host.data_root() / "runs").iterdir() if path.is_dir()]
            active = self._session.active_folder
            found = [path for path in found if path == active or is_run(path)]
            dated = sorted(((date_of(path), path.name, path) for path in found), reverse=True)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                logger.warning("the runs cannot be listed: %s", error)
            return {}
        return {printable(path.name, None): path for _, _, path in dated}

    def _is_running(self, folder: Path) -> bool:
        return self._session.active_folder == folder or is_in_use(folder)


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
