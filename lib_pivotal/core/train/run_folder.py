"""Creates the folder of a run, and locks it while the run uses it.

Does not import torch, because the application starts without it.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lib_pivotal.core.atomic_file import remove_stale
from lib_pivotal.core.errors import PivotalError
from lib_pivotal.core.file_lock import AlreadyLocked, locked
from lib_pivotal.core.train.run_log import logging_to

__all__ = ["STEPS", "Folders", "guarded", "is_in_use", "make_run_folder", "sample_path", "step_bundle_path"]

logger = logging.getLogger("pivotal.run_folder")

STEPS = "steps"
"""Folder in a run folder with the bundles to choose from."""
_LOCK, _LOG = ".lock", "log.txt"
_SPACE = "Check free disk space and write permission."


@dataclass(frozen=True)
class Folders:
    """Where a run writes.

    Attributes:
        run: the run's own folder, which exists: config.json, run.json, loss.csv, validation.csv, log.txt, files.json,
            samples/, states/, steps/.
        bundles: output folder of the bundle.
        cache: folder of stored latents, shared by all runs.
    """

    run: Path
    bundles: Path
    cache: Path


def sample_path(run: Path, step: int, index: int) -> Path:
    """Path of the sample image ``index`` made after ``step`` steps."""
    return run / "samples" / f"step-{step:06d}-{index}.png"


def step_bundle_path(run: Path, name: str, step: int) -> Path:
    """Path of the bundle that a run keeps in its own folder after ``step`` steps."""
    return run / STEPS / f"{name}-{step:06d}.safetensors"


def make_run_folder(root: Path, name: str) -> Path:
    """Create ``runs/<name>-<YYYYmmdd-HHMMSS>`` in ``root``, with a number appended if that exists.

    Args:
        root: parent of the ``runs`` folder; created if missing.
        name: output name of the run, already checked as a file name.

    Raises:
        PivotalError: the folder cannot be created.
    """
    stamp = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder = stem = root / "runs" / f"{name}-{stamp}"
    number = 1
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
                folder = stem.with_name(f"{stem.name}-{number}")
            else:
                return folder
    except OSError as error:
        # A broken link or a file in place of a parent also raises FileExistsError, but the name is not taken.
        reason = "a file or a broken link is in its place" if isinstance(error, FileExistsError) else error.strerror
        message = f"The folder {root} cannot be written ({reason}: {error.filename})."
        raise PivotalError(message, hint=_SPACE) from error


@contextlib.contextmanager
def guarded(folders: Folders, warn: Callable[[str], None], *, on_console: bool = True) -> Iterator[None]:
    """Lock a run's folder for this process, log into it, and remove leftovers of killed runs.

    Leaving the context never raises, so it neither hides an error nor turns a success into a failure.

    Args:
        folders: folders of the run.
        warn: receives a sentence about anything that failed along the way.
        on_console: whether the log also goes to the program's own handlers.

    Raises:
        PivotalError: another process uses the run folder, it cannot be written, or a link in it leads outside.
    """
    _reject_foreign_entries(folders.run)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folders.run / _LOCK))
            stack.enter_context(logging_to(folders.run / _LOG, warn, on_console=on_console))
        except AlreadyLocked as error:
            message = f"The run in {folders.run} is in use by another process."
            raise PivotalError(message, hint="Wait until it has ended, or stop it.") from error
        except OSError as error:
            message = f"The run folder {folders.run} cannot be written ({error.strerror or error})."
            raise PivotalError(message, hint=_SPACE) from error
        for folder in _written_to(folders):
            remove_stale(folder)
        yield


def _written_to(folders: Folders) -> list[Path]:
    run = folders.run
    written = [run, run / "samples", run / "states", run / STEPS, folders.bundles, folders.cache]
    # The application stores the last used settings in the parent of the runs.
    return [*written, run.parent.parent] if run.parent.name == "runs" else written


def is_in_use(run: Path) -> bool:
    """Whether the folder of a run is locked by another process or elsewhere in this one."""
    try:
        if not (run / _LOCK).exists():
            return False
        with locked(run / _LOCK):
            return False
    except AlreadyLocked:
        return True
    except OSError:
        return False


def _reject_foreign_entries(run: Path) -> None:
    """Check that a run folder, which may come from somebody else, contains only files and folders of its own.

    Raises:
        PivotalError: a link leads out of the folder, or there is a pipe, which would never end; the message names it.
    """
    top = Path(os.path.realpath(run))
    for folder, folders, files in os.walk(run):
        for path in (Path(folder, name) for name in (*folders, *files)):
            real = Path(os.path.realpath(path))
            if top not in real.parents:
                message = f"{path} is a link to {real}, which is outside the run folder."
                raise PivotalError(message, hint="Replace the link with the file or folder itself.")
            if path.exists() and not (path.is_file() or path.is_dir()):
                message = f"{path} is neither a file nor a folder."
                raise PivotalError(message, hint="Remove it.")
