"""One run from its place in the webui's queue to the end, in a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lib_pivotal.app.ports import AppHost, Borrowed
from lib_pivotal.app.status import RunStatus
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import Interrupted
from lib_pivotal.core.events import Control, Warned
from lib_pivotal.core.ports import ProgressSink
from lib_pivotal.core.train.checks import Checked
from lib_pivotal.core.train.run_folder import Folders, guarded

__all__ = ["Engine", "TrainingJob", "run_engine"]

logger = logging.getLogger("pivotal.job")


class Engine(Protocol):
    """Trains on the borrowed model; tests use their own."""

    def __call__(
        self,
        config: TrainConfig,
        borrowed: Borrowed,
        sinks: Sequence[ProgressSink],
        control: Control,
        folders: Folders,
        taken_names: Mapping[str, str],
        checked: Checked,
    ) -> None:
        """Train and save; the last event says how it ended.

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
) -> None:
    """The real engine, imported late so that the application starts without torch."""
    from lib_pivotal.core.train.run import train

    train(config, borrowed.model, borrowed.sampler, sinks, control, folders, taken_names=taken_names, checked=checked)


class TrainingJob:
    """Runs the engine inside everything that has to be undone afterwards.

    Args:
        host: the webui.
        engine: trains.
        run: takes the events.
        control: requests to the engine.
        folders: where the run writes.
        checked: what the check before the start found.
    """

    def __init__(
        self, host: AppHost, engine: Engine, run: RunStatus, control: Control, folders: Folders, checked: Checked
    ) -> None:
        self.run = run
        self.control = control
        self._host = host
        self._engine = engine
        self._folders = folders
        self._checked = checked
        self._is_over = False
        """Whether the engine's work has ended; what fails after that does not change its result."""
        self._error: BaseException | None = None

    def work(self) -> None:
        """Body of the thread: nothing may escape, and the run is over only when the host has everything back."""
        try:
            with guarded(self._folders, lambda text: self.run.handle(Warned(text))):
                self._try_to_train()
        except BaseException as error:
            # The run folder cannot be used.
            if not self._is_over:
                self._error = error
        if isinstance(self._error, Interrupted):
            self.run.finish("discarded" if self.control.discard_requested else "stopped")
        elif self._error is not None:
            self.run.fail(self._error)
        else:
            self.run.finish()

    def _try_to_train(self) -> None:
        """Train and note how the engine ended: the first error counts, and after a success none does."""
        try:
            self._train()
        # SystemExit and the like, too: they would end this thread only, and leave the run active forever.
        except BaseException as error:
            if not self._is_over:
                self._error, self._is_over = error, True
            if not isinstance(error, Interrupted):
                logger.exception("The run ended in an error")
            if self._error is None:
                text = f"The result is complete, but something failed after that: {type(error).__name__}: {error}."
                self.run.handle(Warned(f"{text} Restart the webui if it behaves strangely."))
        logger.info("Run ended: %s", "with a result" if self._error is None else f"{self._error!r}")

    def _train(self) -> None:
        host, run = self._host, self.run
        logger.info("Run %s queued on %s", run.run_folder.name, host.name)
        with host.exclusive(run.task_id) as sink:
            if self.control.stop_requested:
                raise Interrupted("Stopped before it began.")
            run.enter("preparing", "loading the model")
            try:
                with host.borrow(run.config, self.control) as borrowed:
                    self._run_engine(borrowed, [sink, run])
            finally:
                # Also after a failure: what was saved before it can be used.
                if run.bundle_path is not None:
                    self._announce(run.bundle_path)

    def _run_engine(self, borrowed: Borrowed, sinks: Sequence[ProgressSink]) -> None:
        taken_names = self._host.taken_names()
        try:
            self._engine(self.run.config, borrowed, sinks, self.control, self._folders, taken_names, self._checked)
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._is_over = True

    def _announce(self, bundle: Path) -> None:
        """Let the webui list the new bundle."""
        self.run.enter("saving", "updating the list of LoRAs")
        try:
            self._host.bundle_written(bundle)
        except BaseException as error:
            logger.exception("The Lora list does not know %s", bundle)
            text = f"The list of LoRAs could not be updated ({type(error).__name__}: {error})."
            self.run.handle(Warned(f"{text} Click Refresh on the Lora tab to see {bundle.stem}."))
