"""The folder of a run: it is made, locked, logged to and cleaned up, and closing it changes no result."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib_pivotal.core import file_lock
from lib_pivotal.core.errors import PivotalError
from lib_pivotal.core.file_lock import AlreadyLocked, locked
from lib_pivotal.core.train.run_folder import Folders, guarded, is_in_use, make_run_folder
from lib_pivotal.core.train.run_log import logging_to

ROOT = Path(__file__).parents[2]
FULL = Path("/dev/full")
needs_full_device = pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")


@pytest.fixture
def folders(tmp_path) -> Folders:
    run = tmp_path / "out" / "runs" / "hero-1"
    run.mkdir(parents=True)
    return Folders(run, tmp_path / "out", tmp_path / "out" / "cache")


def enter(folders: Folders, warnings: list[str] | None = None) -> None:
    with guarded(folders, (warnings if warnings is not None else []).append):
        pass


# -- making


def test_run_folders_never_collide(tmp_path):
    assert len({make_run_folder(tmp_path, "zog") for _ in range(5)}) == 5


def broken_link(path: Path) -> None:
    path.symlink_to("/not/mounted")


def a_file(path: Path) -> None:
    path.write_text("mine")


@pytest.mark.parametrize("make", [broken_link, a_file])
@pytest.mark.parametrize("where", ["disk", "disk/out", "disk/out/runs"])
def test_a_folder_that_cannot_be_made_is_an_error_not_an_endless_search_for_a_name(tmp_path, make, where):
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
    make(tmp_path / where)
    with pytest.raises(PivotalError, match="cannot be written"):
        make_run_folder(tmp_path / "disk" / "out", "zog")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.EMFILE])
def test_an_error_of_the_system_is_passed_on(tmp_path, monkeypatch, error):
    def refuse(path, *_, **__):
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PivotalError, match=os.strerror(error)):
        make_run_folder(tmp_path, "zog")


# -- locking


def test_only_one_holds_the_lock_of_a_run_and_nothing_is_left_behind(folders):
    with guarded(folders, [].append):
        assert is_in_use(folders.run)
        with pytest.raises(PivotalError, match="in use by another process"):
            enter(folders)
    assert not is_in_use(folders.run)
    enter(folders)
    assert {path.name for path in folders.run.iterdir()} == {"log.txt"}


def test_the_lock_of_a_live_process_holds_and_that_of_a_dead_one_does_not(folders):
    program = (
        "import sys; from pathlib import Path; from lib_pivotal.core.file_lock import locked\n"
        "with locked(Path(sys.argv[1])):\n    print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(folders.run / ".lock")]
    holder = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    try:
        assert is_in_use(folders.run)
        with pytest.raises(PivotalError, match="in use"):
            enter(folders)
    finally:
        holder.kill()
        holder.communicate()
    assert (folders.run / ".lock").exists(), "it had no time to remove it"
    enter(folders)
    assert not (folders.run / ".lock").exists()


def test_a_lock_whose_file_cannot_be_removed_is_released(tmp_path):
    with locked(tmp_path / "lock"):
        (tmp_path / "lock").rename(tmp_path / "moved")
    with locked(tmp_path / "moved"):
        pass


def test_a_path_that_cannot_exist_is_not_in_use(tmp_path):
    assert not is_in_use(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    ("system", "number", "is_held"),
    [
        ("fcntl", errno.EAGAIN, True),
        ("fcntl", errno.ENOLCK, False),
        ("msvcrt", errno.EACCES, True),
        ("msvcrt", 0, None),
    ],
)
def test_both_kinds_of_systems(tmp_path, monkeypatch, system, number, is_held):
    """One has fcntl and the other msvcrt; a network drive may know no locks at all."""
    calls = []

    def lock(*arguments):
        calls.append(arguments)
        if number:
            raise OSError(number, os.strerror(number))

    fake = SimpleNamespace(flock=lock, LOCK_EX=2, LOCK_NB=4, locking=lock, LK_NBLCK=2)
    monkeypatch.setattr(importlib, "import_module", {system: fake}.__getitem__)
    monkeypatch.setattr(file_lock, "_IS_WINDOWS", system == "msvcrt")
    if is_held:
        with pytest.raises(AlreadyLocked), locked(tmp_path / "lock"):
            pass
    else:
        with locked(tmp_path / "lock"):
            assert (tmp_path / "lock").exists()
        assert not (tmp_path / "lock").exists()
    assert [arguments[1] for arguments in calls] == [2 if system == "msvcrt" else 6]


def test_a_lock_whose_file_its_last_holder_removed_is_taken_on_the_new_file(tmp_path, monkeypatch):
    path, real = tmp_path / "lock", file_lock._lock
    removed = []

    def lock(descriptor):
        real(descriptor)
        if not removed:
            removed.append(path.unlink())

    monkeypatch.setattr(file_lock, "_lock", lock)
    with locked(path), pytest.raises(AlreadyLocked), locked(path):
        pass


# -- cleaning up


def test_leftovers_of_killed_runs_are_removed_everywhere_a_run_writes(folders):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    places = [folders.run, folders.run / "states", folders.run / "samples", folders.bundles, folders.cache]
    for place in places:
        place.mkdir(exist_ok=True)
        (place / f".hero.safetensors.{dead.pid}.tmp").write_bytes(b"half")
    enter(folders)
    assert not [path for place in places for path in place.iterdir() if path.suffix == ".tmp"]
    assert "unfinished" in (folders.run / "log.txt").read_text()


@pytest.mark.parametrize(
    "name", ["log.txt", "loss.csv", "states", "samples", "config.json", "samples/step-000002-0.png"]
)
def test_a_link_out_of_a_foreign_run_folder_is_refused(folders, tmp_path, name):
    """Otherwise whoever made the folder decides which file of the user's is written."""
    (tmp_path / "precious").mkdir()
    (folders.run / name).parent.mkdir(exist_ok=True)
    (folders.run / name).symlink_to(tmp_path / "precious")
    with pytest.raises(PivotalError, match="outside the run folder"):
        enter(folders)
    assert not list((tmp_path / "precious").iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")
def test_a_pipe_in_a_foreign_run_folder_is_refused_and_not_waited_for(folders):
    os.mkfifo(folders.run / "log.txt")
    with pytest.raises(PivotalError, match="neither a file nor a folder"):
        enter(folders)


def test_a_run_folder_that_is_a_link_itself_is_used(folders, tmp_path):
    (tmp_path / "link").symlink_to(folders.run)
    enter(Folders(tmp_path / "link", folders.bundles, folders.cache))
    assert (folders.run / "log.txt").exists()


# -- the log


@pytest.fixture
def logger():
    logger = logging.getLogger("pivotal")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield logger
    assert (list(logger.handlers), logger.level, logger.propagate) == before


@pytest.mark.parametrize("on_console", [True, False])
def test_the_log_takes_everything_from_info_up(tmp_path, logger, on_console):
    with logging_to(tmp_path / "log.txt", [].append, on_console=on_console):
        assert logger.propagate is on_console
        logging.getLogger("pivotal.some.part").info("this")
        logger.debug("not the other")
    text = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert "this" in text and "not the other" not in text


def test_the_log_takes_text_that_is_not_utf_8(tmp_path, logger):
    with logging_to(tmp_path / "log.txt", [].append, on_console=False):
        logger.info("a file name: \udce9")
    assert "a file name: \\udce9" in (tmp_path / "log.txt").read_text(encoding="utf-8")


@needs_full_device
def test_a_full_disk_is_one_warning_and_no_traceback(logger, capsys):
    warnings: list[str] = []

    def work(result: float) -> None:
        with logging_to(FULL, warnings.append):
            for _ in range(3):
                logger.error("something")
            assert 1 / result

    with pytest.raises(ZeroDivisionError):
        work(0)
    work(1)
    assert len(warnings) == 2 and all("No space left" in text for text in warnings)
    assert "Logging error" not in capsys.readouterr().err


def test_a_warning_that_fails_changes_nothing(logger, monkeypatch):
    def broken(_text):
        raise ZeroDivisionError

    if FULL.exists():
        with logging_to(FULL, broken):
            logger.error("something")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EMFILE, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_an_error_before_the_start(folders, monkeypatch, error):
    def refuse(*_, **__):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(logging, "open", refuse, raising=False)
    with pytest.raises(PivotalError, match=os.strerror(error)):
        enter(folders)
    assert not is_in_use(folders.run)


def test_a_folder_that_is_gone_is_an_error_before_the_start(folders):
    folders.run.rmdir()
    with pytest.raises(PivotalError, match="cannot be written"):
        enter(folders)
