"""Walking a user's folder: links are followed, each folder once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lib_pivotal.core.folder_walk import files_below, walk


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
def test_links_to_the_folder_itself_do_not_loop(tmp_path, count):
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


def test_links_to_folders_around_the_folder_are_not_followed(tmp_path):
    here = make(tmp_path / "data", "deep/x")
    make(tmp_path, "other/y")
    (here / "out").symlink_to(tmp_path)
    (here / "deep" / "far").symlink_to(tmp_path.parent)
    (here / "next").symlink_to(tmp_path / "other")
    skipped: list[tuple[str, OSError | None]] = []
    found = list(walk(here, on_skip=lambda path, error: skipped.append((path.name, error))))
    assert [path.name for path, _, _ in found] == ["data", "deep", "next"]
    assert skipped == [("far", None), ("out", None)]
    assert names(here) == ["deep/x", "next/y"]


def test_a_folder_that_the_caller_removes_is_not_entered(tmp_path):
    make(tmp_path, "a/x", "b/y", "c/z")
    seen = []
    for path, folders, _ in walk(tmp_path):
        seen.append(path.name)
        folders[:] = [entry for entry in folders if entry.name != "b"]
    assert seen == [tmp_path.name, "a", "c"]


def test_a_folder_that_cannot_be_read_is_reported(tmp_path, monkeypatch):
    make(tmp_path, "open/x", "shut/y")
    real = os.scandir

    def scandir(path):
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    skipped: list[tuple[str, str]] = []
    found = list(walk(tmp_path, on_skip=lambda path, error: skipped.append((path.name, error.strerror))))
    assert [path.name for path, _, _ in found] == [tmp_path.name, "open"]
    assert skipped == [("shut", "Permission denied")]
    assert names(tmp_path) == ["open/x"]


def test_a_junction_is_a_link(tmp_path, monkeypatch):
    """For Python, a junction is not a symbolic link; only ``realpath`` shows that it leads elsewhere."""
    make(tmp_path, "x", "deep/y")
    (tmp_path / "a_junction").symlink_to(tmp_path / "deep")
    (tmp_path / "loop").symlink_to(tmp_path)
    monkeypatch.setattr(os.path, "islink", lambda _path: False)
    monkeypatch.setattr(Path, "is_symlink", lambda _path: False)
    assert names(tmp_path) == ["x", "deep/y"]
