"""The folder of a run: making it, and guarding it from the first line of the log to the last.

Without torch, as the application starts without it.
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

__all__ = ["Folders", "guarded", "is_in_use", "make_run_folder", "sample_path"]

logger = logging.getLogger("pivotal.run_folder")

_LOCK, _LOG = ".lock", "log.txt"
_SPACE = "Check free disk space and write permission."


@dataclass(frozen=True)
class Folders:
    """Where a run writes.

    Attributes:
        run: its own folder (exists): config.json, loss.csv, log.txt, files.json, samples/, states/.
        bundles: where the bundle goes.
        cache: stored latents, shared by all runs.
    """

    run: Path
    bundles: Path
    cache: Path


def sample_path(run: Path, step: int, index: int) -> Path:
    """File of the sample image ``index`` made after ``step`` steps."""
    return run / "samples" / f"step-{step:06d}-{index}.png"


def make_run_folder(root: Path, name: str) -> Path:
    """Make ``runs/<name>-<YYYYmmdd-HHMMSS>`` below ``root``, with a number behind it where that is taken.

    Args:
        root: folder of all runs' folder; made where it is missing.
        name: output name of the run, already checked as a file name.

    Raises:
        PivotalError: it cannot be made.
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
        # A broken link or a file in place of a parent gives "exists" as well; that is not a name that is taken.
        reason = "a file or a broken link is in its place" if isinstance(error, FileExistsError) else error.strerror
        message = f"The folder {root} cannot be written ({reason}: {error.filename})."
        raise PivotalError(message, hint=_SPACE) from error


@contextlib.contextmanager
def guarded(folders: Folders, warn: Callable[[str], None], *, on_console: bool = True) -> Iterator[None]:
    """Hold a run's folder for this process: locked, logged, and rid of what killed runs have left.

    Closing it raises nothing, so an error within stays what it was and a success stays one.

    Args:
        folders: of the run.
        warn: takes a sentence about what did not succeed besides.
        on_console: whether the log goes to the handlers of the program, too.

    Raises:
        PivotalError: another process uses the run folder, it cannot be written, or a link in it leads out of it.
    """
    _refuse_strangers(folders.run)
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
    written = [run, run / "samples", run / "states", folders.bundles, folders.cache]
    # The application keeps the settings used last above the runs.
    return [*written, run.parent.parent] if run.parent.name == "runs" else written


def is_in_use(run: Path) -> bool:
    """Whether another process, or another place in this one, holds the folder of a run."""
    if not (run / _LOCK).exists():
        return False
    try:
        with locked(run / _LOCK):
            return False
    except AlreadyLocked:
        return True
    except OSError:
        return False


def _refuse_strangers(run: Path) -> None:
    """See that everything in a run folder, which may be somebody else's, is a file or folder that really lies in it.

    Raises:
        PivotalError: naming a link that leads elsewhere, or a pipe, which would never end.
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
