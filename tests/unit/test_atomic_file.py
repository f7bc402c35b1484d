"""Files are complete or absent; leftovers of killed processes are removed, and nothing else."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.core import atomic_file, process
from lib_pivotal.core.atomic_file import FileInUse, free_name, remove_stale, replacing
from lib_pivotal.core.process import is_running

PARENT = os.getppid() or 1
"""A process that runs."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    waits = []
    monkeypatch.setattr(atomic_file.time, "sleep", waits.append)
    return waits


@pytest.fixture(scope="module")
def dead_pid() -> int:
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write(path: Path, text: str = "new", **options) -> None:
    with replacing(path, **options) as partial:
        partial.write_text(text)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write(path, before=lambda _partial: 1 / 0)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_temporary_file_that_cannot_be_removed_does_not_hide_the_error(tmp_path, monkeypatch):
    def locked(_path, missing_ok=False):
        raise PermissionError(13, "in use")

    monkeypatch.setattr(Path, "unlink", locked)
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a"):
        raise ZeroDivisionError


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_get_ordinary_rights_whoever_writes_them(tmp_path, umask):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "a.safetensors") as partial:
            # Newer versions give rights to the owner only.
            save_file({"x": torch.zeros(1)}, partial)
            partial.chmod(0o600)
        write(tmp_path / "b.json")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    other = tmp_path / "other disk"
    other.mkdir()
    (other / "hero.safetensors").write_text("old")
    link = tmp_path / "hero.safetensors"
    link.symlink_to(other / "hero.safetensors")
    write(link)
    assert link.is_symlink() and (other / "hero.safetensors").read_text() == "new"
    assert len(list(other.iterdir())) == 1 and len(list(tmp_path.iterdir())) == 2


def test_a_file_that_is_in_use_for_a_moment_is_replaced(tmp_path, monkeypatch, no_waiting):
    """A virus scanner on Windows."""
    replace, refusals = os.replace, [1, 2, 3]

    def busy(source, target):
        if refusals:
            refusals.pop()
            raise PermissionError(13, "used by another process")
        replace(source, target)

    monkeypatch.setattr(os, "replace", busy)
    write(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "new" and len(no_waiting) == 3


def test_a_file_that_stays_in_use_keeps_the_new_one_next_to_it(tmp_path, monkeypatch, no_waiting):
    """A LoRA that a program on Windows has loaded."""
    path = tmp_path / "hero.safetensors"
    path.write_text("old")
    replace = os.replace

    def busy(source, target):
        if Path(target) == path:
            raise PermissionError(13, "used by another process")
        replace(source, target)

    monkeypatch.setattr(os, "replace", busy)
    with pytest.raises(FileInUse, match=r"hero-2\.safetensors") as caught:
        write(path)
    assert caught.value.kept.read_text() == "new" and path.read_text() == "old"
    assert 1 < sum(no_waiting) < 5 and len(list(tmp_path.iterdir())) == 2
    with pytest.raises(PermissionError):
        write(path, keep=False)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_in_the_place_of_a_file_is_an_error_at_once(tmp_path, no_waiting):
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        write(tmp_path / "a")
    assert not no_waiting and len(list(tmp_path.iterdir())) == 1


def test_a_long_name_leaves_room_for_the_temporary_one(tmp_path):
    write(tmp_path / ("ä" * 120))
    assert (tmp_path / ("ä" * 120)).read_text() == "new"


def test_the_hook_before_renaming_sees_the_complete_file_and_the_old_one(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    seen = []
    write(path, before=lambda partial: seen.append((partial.read_text(), path.read_text())))
    assert seen == [("new", "old")]


def test_a_broken_link_does_not_count_as_a_free_name(tmp_path):
    (tmp_path / "a.safetensors").symlink_to(tmp_path / "not mounted" / "a.safetensors")
    assert free_name(tmp_path / "a.safetensors").name == "a-2.safetensors"


# -- what killed processes leave


def names(folder: Path, pid: int) -> dict[str, bool]:
    """Names in a folder → whether they are to be removed."""
    computer = atomic_file._COMPUTER
    found = {
        f".hero.safetensors.{computer}-{pid}-0123abcd.tmp": True,
        f".hero.safetensors.{computer}-{os.getpid()}-0123abcd.tmp": True,
        f".hero.safetensors.{pid}.tmp": True,
        f"{'ab' * 32}.{pid}.tmp": True,
        # Another computer that shares the folder, a process that runs, and files of the user's.
        f".hero.safetensors.00000000-{pid}-0123abcd.tmp": False,
        f".hero.safetensors.{computer}-{PARENT}-0123abcd.tmp": False,
        f".hero.safetensors.{PARENT}.tmp": False,
        f"hero.safetensors.{pid}.tmp": False,
        f".notes.{pid}.tmp": False,
        "hero.tmp": False,
        ".tmpAb12Cd": False,
    }
    for name in found:
        (folder / name).write_bytes(b"")
    return found


def test_only_files_of_ended_processes_are_removed(tmp_path, dead_pid):
    expected = names(tmp_path, dead_pid)
    (tmp_path / f".folder.safetensors.{dead_pid}.tmp").mkdir()
    (tmp_path / f".link.safetensors.{dead_pid}.tmp").symlink_to(tmp_path / "hero.tmp")
    with replacing(tmp_path / "now.json") as partial:
        remove_stale(tmp_path)
        assert partial.exists(), "this process is writing it"
        kept = {name for name in expected if (tmp_path / name).exists()}
    assert kept == {name for name, goes in expected.items() if not goes}
    assert (tmp_path / f".folder.safetensors.{dead_pid}.tmp").is_dir()
    assert (tmp_path / f".link.safetensors.{dead_pid}.tmp").is_symlink()


def test_a_temporary_file_unchanged_for_an_hour_is_stale(tmp_path, dead_pid):
    for name in names(tmp_path, dead_pid):
        os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    # Others may have files of this name, so it must also start like a safetensors file.
    (tmp_path / ".tmpNote12").write_text("remember the milk")
    (tmp_path / ".tmpHalf12").write_bytes((100).to_bytes(8, "little") + b'{"x":')
    for name in (".tmpNote12", ".tmpHalf12"):
        os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    remove_stale(tmp_path)
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {f"hero.safetensors.{dead_pid}.tmp", f".notes.{dead_pid}.tmp", "hero.tmp", ".tmpNote12"}


def test_a_missing_folder_has_no_stale_files(tmp_path):
    assert remove_stale(tmp_path / "none") == []


# -- processes


def test_processes_that_run_and_that_have_ended(dead_pid):
    assert is_running(os.getpid()) and is_running(PARENT)
    assert not is_running(dead_pid) and not is_running(0) and not is_running(-1) and not is_running(10**30)


@pytest.mark.parametrize(
    ("handle", "error", "waited", "runs"),
    [(7, 0, 0x102, True), (7, 0, 0, False), (0, 87, 0, False), (0, 5, 0, True)],
)
def test_asking_windows_about_a_process_does_not_end_it(handle, error, waited, runs):
    class Function:
        def __init__(self, result):
            self.result, self.calls = result, []

        def __call__(self, *arguments):
            self.calls.append(arguments)
            return self.result

    class Kernel:
        OpenProcess, WaitForSingleObject, CloseHandle = Function(handle), Function(waited), Function(1)

    assert process._runs_on_windows(123, Kernel, lambda: error) is runs
    assert len(Kernel.CloseHandle.calls) == bool(handle)


def test_no_process_of_windows_has_a_number_of_more_than_32_bits():
    assert not process._runs_on_windows(2**33, None, None)


def test_a_file_that_is_being_written_stays_however_its_folder_is_spelled(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    with replacing(tmp_path / "a.json") as partial:
        partial.write_text("new")
        for folder in (tmp_path, Path(), tmp_path / "link"):
            assert remove_stale(folder) == []
    assert (tmp_path / "a.json").read_text() == "new"
