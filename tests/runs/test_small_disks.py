"""Runs on disks that are really too small or read-only; needs the right to mount one (as root on Linux)."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.errors import ConfigError, PivotalError
from lib_pivotal.core.events import Control, StepDone, Warned
from lib_pivotal.core.train.output_check import check_output
from lib_pivotal.core.train.run import Folders, train
from lib_pivotal.core.train.run_folder import guarded, make_run_folder
from tests.runs.harness import ImageMaker, Listener
from tests.unit.toy import ToyModel, toy_config


def mount(place: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """Where a disk can be mounted; unmounted at the end."""
    place = tmp_path / "disk"
    place.mkdir()
    yield place
    if os.path.ismount(place):
        subprocess.run(["umount", "-l", str(place)], check=True)


def attempt(config, root: Path, bundles: Path, resume: Path | None = None):
    """A run as the command line makes it; returns its error or None, and the listener."""
    listener = Listener()
    try:
        folders = Folders(resume or make_run_folder(root, "toy"), bundles, root / "cache")
        with guarded(folders, lambda text: listener.handle(Warned(text)), on_console=False):
            train(config, ToyModel(), ImageMaker(), [listener], Control(), folders, resume_from=resume)
    except PivotalError as error:
        return error, listener
    return None, listener


def settings(data, **changes):
    values = {"steps": 8, "save_every": 4, "sample_every": 4, "sample_prompts": "zog_x", "cache_to_disk": True}
    return toy_config(data, **{**values, **changes})


def temporary(disk: Path) -> list[Path]:
    return [path for path in disk.rglob("*") if ".tmp" in path.name or path.name == ".lock"]


@pytest.mark.parametrize(
    "size", ["size=4k", "size=40k", "size=80k", "size=160k", "nr_inodes=3", "nr_inodes=6", "nr_inodes=16"]
)
def test_a_disk_that_fills_up_gives_a_success_or_a_clear_message(disk, data, size, capsys):
    """Either the bundle is complete or the error says why; failures before the bundle do not matter."""
    mount(disk, size)
    error, _ = attempt(settings(data), disk, disk)
    bundles = [path.name for path in disk.glob("*.safetensors")]
    assert all(read_bundle(disk / name).lora for name in bundles)
    assert temporary(disk) == []
    if error is None:
        assert "toy.safetensors" in bundles
    else:
        words = str(error)
        assert "No space left" in words or "free" in words, words
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("size", ["size=4k", "size=40k", "nr_inodes=6", "nr_inodes=9"])
def test_a_full_run_folder_does_not_prevent_a_bundle_on_another_disk(disk, data, tmp_path, size, capsys):
    mount(disk, size)
    error, listener = attempt(settings(data), disk, tmp_path / "Lora")
    assert capsys.readouterr().err == ""
    if error is None:
        assert read_bundle(tmp_path / "Lora" / "toy.safetensors").lora and listener.of(Warned)
    else:
        # Not even the log can be created.
        assert "cannot be written" in str(error) and not listener.of(StepDone)


def test_a_run_continues_under_its_own_name_once_there_is_space(disk, data):
    """The bundle fits and the state does not."""
    mount(disk, "size=4m")
    filler = disk / "filler"
    error, _ = attempt(settings(data, steps=4, sample_every=0, cache_to_disk=False), disk, disk)
    assert error is None
    (run,) = (disk / "runs").iterdir()

    class Fills(Listener):
        def handle(self, event):
            super().handle(event)
            if isinstance(event, StepDone) and event.step == 8:
                free = os.statvfs(disk).f_bavail * 4096
                filler.write_bytes(b"\0" * (free - 4 * 4096))

    listener = Fills()
    folders = Folders(run, disk, disk / "cache")
    config = settings(data, sample_every=0, save_every=0, cache_to_disk=False, rank=4)
    with guarded(folders, lambda _text: None, on_console=False):
        train(config, ToyModel(), None, [listener], Control(), folders, resume_from=run)
    assert ["The state to resume from" in event.message for event in listener.of(Warned)] == [True]
    filler.unlink()
    error, listener = attempt(settings(data, steps=12, sample_every=0, save_every=0), disk, disk, run)
    assert error is None and not listener.of(Warned)
    assert [path.name for path in disk.glob("*.safetensors")] == ["toy.safetensors"]


def test_a_read_only_disk_is_found_before_anything_is_done(disk, data, tmp_path):
    mount(disk, "size=1m")
    (disk / "runs").mkdir()
    mount(disk, "remount,ro")
    reason = os.strerror(errno.EROFS)
    (found,) = check_output(disk, disk, settings(data))
    assert found.is_error and reason in found.message and str(disk) in found.message
    error, _ = attempt(settings(data), disk, disk)
    assert reason in str(error)
    listener = Listener()
    (tmp_path / "run").mkdir()
    folders = Folders(tmp_path / "run", disk, tmp_path / "cache")
    with pytest.raises(ConfigError, match=reason):
        train(settings(data), ToyModel(), None, [listener], Control(), folders)
    assert {event.stage for event in listener.events} == {"reading images"}
