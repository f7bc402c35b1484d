"""The check tries to write where the run will write, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.train import output_check
from lib_pivotal.core.train.checks import check
from lib_pivotal.core.train.output_check import SMALLEST, ValuesPerRank, check_output, check_space
from tests.unit.toy import toy_config, write_images

Usage = namedtuple("Usage", "total used free")
CONFIG = TrainConfig(output_name="hero", concepts=(Concept("zog"),))
MIB = 2**20


def everything(root: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in [root, *root.rglob("*")])


def errors(bundles: Path, run_root: Path | None = None, config: TrainConfig = CONFIG) -> list[str]:
    return [str(problem) for problem in check_output(bundles, run_root or bundles, config) if problem.is_error]


@pytest.mark.parametrize("part", ["", "new", "new/and/deeper"])
def test_a_folder_that_is_there_or_can_be_made_is_fine(tmp_path, part):
    before = everything(tmp_path)
    assert errors(tmp_path / part) == []
    assert [name for name, _ in everything(tmp_path)] == [name for name, _ in before]


def test_a_relative_folder_is_fine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert errors(Path()) == [] and errors(Path("new/folder")) == []
    assert not list(tmp_path.iterdir())


def a_file(path: Path) -> str:
    path.write_text("")
    return "is a file"


def a_broken_link(path: Path) -> str:
    path.symlink_to("/not/mounted/here")
    return "link to /not/mounted/here"


def a_loop(path: Path) -> str:
    path.symlink_to(path)
    return "link|symbolic"


@pytest.mark.parametrize("make", [a_file, a_broken_link, a_loop])
@pytest.mark.parametrize("where", ["out", "out/runs/below"])
def test_whatever_blocks_the_output_is_named(tmp_path, make, where):
    words = make(tmp_path / "out")
    (found,) = errors(tmp_path / "elsewhere", tmp_path / where)
    assert str(tmp_path / where) in found and any(word in found for word in words.split("|")), found
    (found,) = errors(tmp_path / where)
    assert "cannot be written" in found


@pytest.mark.parametrize("make", [a_file, a_broken_link, a_loop])
def test_what_is_in_the_way_of_the_runs_is_named(tmp_path, make):
    make(tmp_path / "runs")
    (found,) = errors(tmp_path)
    assert f"{tmp_path / 'runs'} cannot be written" in found


def test_a_name_that_no_system_accepts_is_an_error_not_a_crash(tmp_path):
    assert errors(tmp_path / ("x" * 300) / "y")
    assert errors(tmp_path / "a\0b")


@pytest.mark.parametrize("mode", [0o555, 0o444, 0o000])
def test_missing_rights_are_found(tmp_path, monkeypatch, mode):
    """Root may write everywhere, so the system's refusal is simulated."""
    closed = tmp_path / "closed"
    closed.mkdir()

    def refuse(**where):
        assert where == {"dir": closed}
        raise PermissionError(13, "Permission denied", str(closed))

    if os.name == "nt" or os.geteuid() == 0:
        monkeypatch.setattr(output_check.tempfile, "TemporaryFile", refuse)
    closed.chmod(mode)
    try:
        (found,) = errors(closed / "new" if mode & 0o100 else closed)
    finally:
        closed.chmod(0o755)
    assert "Permission denied" in found and "closed" in found


# -- the name of the bundle


def test_an_existing_bundle_is_refused_unless_the_settings_say_otherwise(tmp_path):
    (tmp_path / "hero.safetensors").write_bytes(b"")
    (found,) = errors(tmp_path)
    assert "hero.safetensors already exists" in found
    for choice in ("number", "overwrite"):
        assert errors(tmp_path, config=TrainConfig(output_name="hero", if_exists=choice)) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.symlink_to("/not/mounted/hero.safetensors"), "whose folder does not exist"),
        (lambda path: path.symlink_to(path.parent / "new.safetensors"), ""),
    ],
)
def test_a_link_is_followed_to_its_target(tmp_path, make, words):
    make(tmp_path / "hero.safetensors")
    found = errors(tmp_path, config=TrainConfig(output_name="hero", if_exists="overwrite"))
    assert [words in text for text in found] == ([True] if words else [])


# -- space


@pytest.fixture
def free(monkeypatch):
    """Free bytes of every disk, in a list of one."""
    found = [10 * 2**30]
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(2**40, 0, found[0]))
    return found


def test_the_size_estimate_fits_known_files():
    """A LoRA of SD1's attention and feed-forward layers with rank 32 in fp16 has 24 MB."""
    assert 23e6 < output_check.trained_values(TrainConfig(rank=32), SMALLEST) * 2 < 25e6


@pytest.mark.parametrize(
    ("mib", "severity", "changes"),
    [
        (1, "error", {}),
        (60, "warning", {}),
        (400, None, {}),
        (250, "warning", {}),
        (250, None, {"step_bundles": 0}),
        (400, "warning", {"save_every": 10}),
        (30, "error", {"save_precision": "fp32"}),
        (400, "warning", {"cache_to_disk": True}),
    ],
)
def test_too_little_space_is_found(tmp_path, free, mib, severity, changes):
    free[0] = mib * MIB
    config = TrainConfig(**{"output_name": "hero", "rank": 32, "steps": 100, **changes})
    found = check_output(tmp_path, tmp_path / "new", config, per_rank=SMALLEST, steps=100, image_count=5000)
    assert [problem.severity for problem in found] == ([severity] if severity else [])
    assert all("MiB" in problem.message and problem.hint for problem in found)


def space(bundles: Path, run_root: Path, trained_count: int) -> list[Problem]:
    return check_space(bundles, run_root, CONFIG, trained_count=trained_count, steps=600, latent_count=0)


@pytest.mark.parametrize(("is_cached", "count"), [(True, 1), (False, 0)])
def test_a_check_counts_the_latents_that_will_be_stored(tmp_path, free, is_cached, count):
    write_images(tmp_path / "data", 100)
    config = toy_config(tmp_path / "data", resolution=1024, flip=True, cache_to_disk=is_cached)
    free[0] = 90 * MIB
    # 200 latents of at most 128 × 128 cells with 32 bytes each.
    found = check(config, bundles=tmp_path, taken_names={}, per_rank=ValuesPerRank(1, 1, 1)).problems
    texts = [str(problem) for problem in found if problem.field == "output folder"]
    assert len(texts) == count
    assert all('Without "Cache latents to disk", 100.0 MiB less is needed' in text for text in texts)


def test_bundles_saved_along_the_way_need_space(tmp_path, free):
    config = TrainConfig(output_name="hero", rank=32, steps=0, save_every=100, keep_states=1, step_bundles=0)
    free[0] = 550 * MIB
    few, many = (check_output(tmp_path, tmp_path, config, per_rank=SMALLEST, steps=count) for count in (600, 1500))
    # 15 bundles instead of 6.
    assert [len(few), len(many)] == [0, 1]


def test_two_disks_are_checked_separately(tmp_path, monkeypatch):
    lora, runs = tmp_path / "Lora", tmp_path / "runs"
    lora.mkdir()
    runs.mkdir()
    stat = Path.stat

    class OtherDisk:
        st_dev = 77
        st_mode = 0o40755

    monkeypatch.setattr(Path, "stat", lambda path, **options: OtherDisk() if path == runs else stat(path, **options))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 10 * MIB if path == runs else 100 * MIB))
    (found,) = space(lora, runs, 10_000_000)
    assert found.severity == "warning" and str(runs) in found.message
    found = space(runs, lora, 10_000_000)
    assert [problem.severity for problem in found] == ["error", "warning"]
    assert str(runs) in found[0].message and str(lora) in found[1].message


@pytest.mark.parametrize("error", [OSError(95, "not supported"), PermissionError(13, "no")])
def test_a_disk_of_unknown_size_is_accepted(tmp_path, monkeypatch, error):
    def refuse(_path):
        raise error

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    assert space(tmp_path, tmp_path, 10**12) == []


@pytest.mark.parametrize(
    "changes", [{"rank": -5}, {"save_every": -1}, {"steps": -7, "save_every": 3}, {"resolution": -64}]
)
def test_settings_out_of_range_cause_no_error_here(tmp_path, changes):
    config = TrainConfig(**{"output_name": "hero", "concepts": (Concept("zog", vectors=-3),), **changes})
    assert check_output(tmp_path, tmp_path, config, per_rank=ValuesPerRank(1, 1, 1)) == []


# -- Windows


@pytest.mark.parametrize(
    ("length", "is_windows", "is_told"), [(50, True, False), (200, True, True), (200, False, False)]
)
def test_paths_that_windows_does_not_open_are_reported(tmp_path, length, is_windows, is_told):
    root = tmp_path / ("x" * max(length - len(str(tmp_path)), 1))
    found = check_output(tmp_path, root, CONFIG, is_windows=is_windows)
    assert ["characters" in problem.message for problem in found] == [True] * is_told
