"""Writes captions with a program of the webui, in the background and within its queue."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lib_pivotal.app.ports import AppHost, Captioner
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.background import on_background
from lib_pivotal.core.data.caption_edits import EditPlan
from lib_pivotal.core.data.image_file import UnusableImage, read_bytes, read_image
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.errors import Interrupted, PivotalError
from lib_pivotal.core.events import Preparing

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["NO_JOB", "CaptionJob", "JobState"]

logger = logging.getLogger("pivotal.captions")


@dataclass
class JobState:
    """How far a job is.

    Attributes:
        state: ``waiting`` for the queue, ``working``, ``done``, ``stopped``, ``failed``, or empty before the first job.
        done: number of images that were described.
        total: number of images.
        files: number of files written at the end.
        error: why it failed.
    """

    state: str = ""
    done: int = 0
    total: int = 0
    files: int = 0
    error: str = ""

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.state in ("waiting", "working")


NO_JOB = JobState()


class CaptionJob:
    """Describes images one by one; their captions are written together at the end, so that one undo takes them back.

    Args:
        host: the webui.
        captioner: the program.
        images: what to describe.
        config: its background counts.
        save: called with image → text, also for the images done before a stop or a failure; returns what was planned.
    """

    def __init__(
        self,
        host: AppHost,
        captioner: Captioner,
        images: Sequence[DatasetImage],
        config: TrainConfig,
        save: Callable[[dict[str, str]], EditPlan],
    ) -> None:
        self.state = JobState("waiting", total=len(images))
        self._host = host
        self._captioner = captioner
        self._images = images
        self._background = config.background
        self._save = save
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="pivotal-captions", daemon=True)

    def start(self) -> None:
        """Begin in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the image in work; what has been described is kept."""
        self._is_stopped.set()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until it has ended."""
        self._thread.join(timeout_s)

    def _work(self) -> None:
        texts: dict[str, str] = {}
        end, error = "failed", ""
        try:
            self._describe_all(texts)
            end = "stopped" if self._is_stopped.is_set() else "done"
        except Interrupted:
            end = "stopped"
        except PivotalError as failure:
            error = str(failure)
        except Exception as failure:
            logger.exception("Captions could not be written")
            error = f"{type(failure).__name__}: {failure}"
        try:
            if texts:
                self.state.files = len(self._save(texts).files)
        except PivotalError as failure:
            end, error = "failed", str(failure)
        except Exception as failure:
            logger.exception("Captions could not be saved")
            end, error = "failed", f"{type(failure).__name__}: {failure}"
        self.state.error = error
        # Last: the page stops asking then.
        self.state.state = end

    def _describe_all(self, texts: dict[str, str]) -> None:
        with self._host.exclusive(f"task(pivotal-{secrets.token_hex(8)})") as sink:
            if self._is_stopped.is_set():
                return
            self.state.state = "working"
            with self._captioner.opened() as describe:
                for image in self._images:
                    if self._is_stopped.is_set():
                        return
                    sink.handle(Preparing("captions", self.state.done, self.state.total))
                    pixels = self._pixels(image)
                    if pixels is not None:
                        texts[image.shown] = " ".join(describe(pixels).split())
                    self.state.done += 1

    def _pixels(self, image: DatasetImage) -> Image.Image | None:
        try:
            return on_background(read_image(read_bytes(image.path)), self._background)
        except (UnusableImage, ValueError, MemoryError):
            logger.warning("%s cannot be described", image.shown)
            return None
