"""Walking a folder of the user's: links are followed, and once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lib_pivotal.core.folder_walk import files_below


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_below(folder)]


def make(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")
    return folder


def test_lists_everything_in_order(tmp_path):
    assert names(make(tmp_path, "b/2", "b/1", "a/x", "c")) == ["c", "a/x", "b/1", "b/2"]
    assert names(tmp_path / "none") == []


@pytest.mark.parametrize("count", [1, 2, 5])
def test_links_to_the_folder_itself_end(tmp_path, count):
    make(tmp_path, "x", "deep/y")
    for number in range(count):
        (tmp_path / f"loop{number}").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "deep" / f"up{number}").symlink_to("..", target_is_directory=True)
    assert names(tmp_path) == ["x", "deep/y"]


def test_two_folders_that_link_to_each_other(tmp_path):
    make(tmp_path, "a/x", "b/y")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    assert names(tmp_path) == ["a/x", "b/y"]


def test_a_linked_folder_is_listed_once_and_under_its_own_path_where_it_has_one(tmp_path):
    elsewhere = make(tmp_path / "disk", "far")
    here = make(tmp_path / "here", "people/x")
    for name in ("0first", "second"):
        (here / name).symlink_to(elsewhere)
    (here / "0alias").symlink_to(here / "people")
    assert names(here) == ["people/x", "0first/far"]


def test_a_link_to_a_file_and_one_to_nowhere(tmp_path):
    make(tmp_path, "x")
    (tmp_path / "also").symlink_to("x")
    (tmp_path / "broken").symlink_to("gone")
    assert names(tmp_path) == ["also", "broken", "x"]


def test_a_folder_that_cannot_be_read_is_reported(tmp_path, monkeypatch):
    make(tmp_path, "open/x", "shut/y")
    real = os.scandir

    def scandir(path):
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    errors: list[OSError] = []
    assert [path.name for path in files_below(tmp_path, on_error=errors.append)] == ["x"]
    assert [Path(error.filename).name for error in errors] == ["shut"]


def test_a_junction_is_no_endless_loop(tmp_path, monkeypatch):
    """Windows' junctions are not links to ``islink``; ``realpath`` resolves them."""
    make(tmp_path, "x", "deep/y")
    (tmp_path / "junction").symlink_to(tmp_path)
    monkeypatch.setattr(os.path, "islink", lambda _path: False)
    assert names(tmp_path) == ["x", "deep/y"]
