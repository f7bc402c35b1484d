"""One training run in a background thread, from waiting in the webui's queue to the end."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lib_pivotal.app.ports import AppHost, Borrowed
from lib_pivotal.app.status import RunStatus, message_and_hint
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import Interrupted
from lib_pivotal.core.events import Control, Warned
from lib_pivotal.core.ports import ProgressSink
from lib_pivotal.core.train.checks import Checked
from lib_pivotal.core.train.out_of_memory import forget_variables
from lib_pivotal.core.train.run_folder import Folders, guarded
from lib_pivotal.core.train.run_record import record_end

__all__ = ["Engine", "TrainingJob", "run_engine"]

logger = logging.getLogger("pivotal.job")


class Engine(Protocol):
    """Trains on the borrowed model; tests pass their own."""

    def __call__(
        self,
        config: TrainConfig,
        borrowed: Borrowed,
        sinks: Sequence[ProgressSink],
        control: Control,
        folders: Folders,
        taken_names: Mapping[str, str],
        checked: Checked,
        resume_from: Path | None,
    ) -> None:
        """Train and save; the last event reports the outcome.

        Raises:
            PivotalError: with a message for the user.
        """
        ...


def run_engine(
    config: TrainConfig,
    borrowed: Borrowed,
    sinks: Sequence[ProgressSink],
    control: Control,
    folders: Folders,
    taken_names: Mapping[str, str],
    checked: Checked,
    resume_from: Path | None,
) -> None:
    """The real engine, imported late so that the application starts without torch."""
    from lib_pivotal.core.train.run import train

    train(
        config,
        borrowed.model,
        borrowed.sampler,
        sinks,
        control,
        folders,
        resume_from=resume_from,
        taken_names=taken_names,
        checked=checked,
    )


class TrainingJob:
    """Runs the engine and afterwards undoes all changes to the host.

    Args:
        host: the webui.
        engine: does the training.
        run: receives the events.
        control: passes requests to the engine.
        folders: folders that the run writes to.
        checked: result of the check before the start.
        resume_from: run folder to continue; None for a new run.
    """

    def __init__(
        self,
        host: AppHost,
        engine: Engine,
        run: RunStatus,
        control: Control,
        folders: Folders,
        checked: Checked,
        resume_from: Path | None = None,
    ) -> None:
        self.run = run
        self.control = control
        self._host = host
        self._engine = engine
        self._folders = folders
        self._checked = checked
        self._resume_from = resume_from
        self._is_over = False
        """Whether the engine has finished; failures after that do not change the outcome."""
        self._error: BaseException | None = None

    def work(self) -> None:
        """Body of the thread. It never raises, and the run ends only after everything on the host has been restored."""
        try:
            with guarded(self._folders, lambda text: self.run.handle(Warned(text))):
                self._try_to_train()
                self._record()
        except BaseException as error:
            # The run folder cannot be used.
            if not self._is_over:
                self._error = error
        if self._error is not None and not isinstance(self._error, Interrupted):
            self.run.fail(self._error)
        else:
            self.run.finish(self._outcome())

    def _outcome(self) -> str:
        if isinstance(self._error, Interrupted):
            return "discarded" if self.control.discard_requested else "stopped"
        return self.run.outcome if self._error is None else "failed"

    def _record(self) -> None:
        """Write how the run ended into its folder, for the list of runs."""
        record_end(
            self._folders.run,
            self._outcome(),
            step=self.run.snapshot()["step"],
            message="" if self._outcome() != "failed" or self._error is None else message_and_hint(self._error)[0],
            seconds_per_step=self.run.measured_pace,
        )

    def _try_to_train(self) -> None:
        """Train and record the outcome: the first error counts, and errors after a success do not."""
        try:
            self._train()
        # Also SystemExit and the like: they would end only this thread and leave the run active forever.
        except BaseException as error:
            if not self._is_over:
                self._error, self._is_over = error, True
            if not isinstance(error, Interrupted):
                logger.exception("The run ended with an error")
            if self._error is None:
                text = f"The result is complete, but something failed after that: {type(error).__name__}: {error}."
                self.run.handle(Warned(f"{text} Restart the webui if it behaves strangely."))
        logger.info("Run ended: %s", "with a result" if self._error is None else f"{self._error!r}")

    def _train(self) -> None:
        host, run = self._host, self.run
        logger.info("Run %s queued on %s", run.run_folder.name, host.name)
        with host.exclusive(run.task_id) as sink:
            if self.control.stop_requested:
                raise Interrupted("Stopped before training began.")
            run.enter("preparing", "loading the model")
            try:
                with host.borrow(run.config, self.control) as borrowed:
                    self._run_engine(borrowed, [sink, run])
            finally:
                # Also after a failure: a bundle that was saved before it can be used.
                if run.bundle_path is not None:
                    self._announce(run.bundle_path)

    def _run_engine(self, borrowed: Borrowed, sinks: Sequence[ProgressSink]) -> None:
        taken_names = self._host.taken_names()
        try:
            self._engine(
                self.run.config,
                borrowed,
                sinks,
                self.control,
                self._folders,
                taken_names,
                self._checked,
                self._resume_from,
            )
        except BaseException as error:
            self._error = error
            # What is undone next needs memory, and may need all that the run has used.
            forget_variables(error)
            raise
        finally:
            self._is_over = True

    def _announce(self, bundle: Path) -> None:
        """Make the webui list the new bundle."""
        self.run.enter("saving", "updating the list of LoRAs")
        try:
            self._host.bundle_written(bundle)
        except BaseException as error:
            logger.exception("The Lora list could not be updated with %s", bundle)
            text = f"The list of LoRAs could not be updated ({type(error).__name__}: {error})."
            self.run.handle(Warned(f"{text} Click Refresh on the Lora tab to see {bundle.stem}."))
