"""Undo files and stored thumbnails do not pile up, and those that are needed stay."""

from __future__ import annotations

import os
import time

from lib_pivotal.core.data import caption_undo, thumbnail
from lib_pivotal.core.data.caption_edits import plan_edits
from lib_pivotal.core.data.caption_undo import CaptionHistory
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.data.old_files import DAY_S, remove_old
from lib_pivotal.core.data.thumbnail import Thumbnails
from tests.unit.dataset_files import save_image
from tests.unit.toy import toy_config


def aged(path, days: float) -> None:
    os.utime(path, (time.time() - days * DAY_S,) * 2)


def test_only_files_that_are_neither_new_nor_among_the_newest_go(tmp_path):
    for number, days in enumerate((0, 40, 50, 60, 70)):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
        aged(tmp_path / f"{number}.jpg", days)
    (tmp_path / "notes.txt").write_text("mine")
    aged(tmp_path / "notes.txt", 900)
    remove_old(tmp_path, "*.jpg", keep=2, days=55)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.jpg", "1.jpg", "2.jpg", "notes.txt"]
    remove_old(tmp_path / "none", "*.jpg", keep=2, days=5)


def test_old_edits_are_forgotten_when_there_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr(caption_undo, "_KEPT", 2)
    save_image(tmp_path / "images" / "a.png")
    history, config = CaptionHistory(tmp_path / "undo"), toy_config(tmp_path / "images")
    done = []
    for number in range(4):
        images = read_dataset(config).images
        edits = plan_edits(images, images, lambda _, n=number: f"hat {n}", config, title="", writes_files=True)
        done.append(history.apply(edits))
        aged(tmp_path / "undo" / f"{done[-1]}.json", 90 - number)
    assert {entry.id for entry in history.entries()} == set(done[2:])
    history.undo(done[3])
    assert (tmp_path / "images" / "a.txt").read_text() == "hat 2"


def test_thumbnails_that_are_in_use_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnail, "_STORED", 1)
    for name in "abc":
        save_image(tmp_path / "images" / f"{name}.png", color=(ord(name), 1, 2))
    images = read_dataset(toy_config(tmp_path / "images")).images
    folder = tmp_path / "cache" / "thumbnails"
    Thumbnails(tmp_path / "cache", "white").of(images[:2])
    stored = sorted(folder.iterdir())
    for path in stored:
        aged(path, 10)
    # The first one is used again, so that only the other one is old when the next one is stored.
    again = Thumbnails(tmp_path / "cache", "white")
    again.of(images[:1])
    again.of(images[2:])
    assert len(list(folder.iterdir())) == 2
