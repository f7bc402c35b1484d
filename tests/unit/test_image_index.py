"""Images that have not changed are decoded once, whatever the number of runs, and in several threads."""

from __future__ import annotations

import json
import os
import threading

import pytest

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data import dataset_report
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.data.in_order import in_order
from tests.unit.dataset_files import save_image, write_captions


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that were decoded."""
    names = []
    real = dataset_report.read_facts
    monkeypatch.setattr(dataset_report, "read_facts", lambda path, kept: names.append(path.name) or real(path, kept))
    return names


def read(tmp_path):
    report = read_dataset(TrainConfig(data_folder=str(tmp_path / "data")), cache=tmp_path / "cache")
    return report.images, report.copies, report.digest()


def test_unchanged_images_are_decoded_once(tmp_path, decoded):
    write_captions(tmp_path / "data", "zog", "zog, hat", "tree")
    (tmp_path / "data" / "copy.png").write_bytes((tmp_path / "data" / "a0.png").read_bytes())
    (tmp_path / "data" / "broken.png").write_bytes((tmp_path / "data" / "a0.png").read_bytes()[:60])
    first = read(tmp_path)
    assert sorted(decoded) == ["a0.png", "a1.png", "a2.png", "broken.png", "copy.png"]
    decoded.clear()
    # What cannot be used is looked at again.
    assert read(tmp_path) == first and decoded == ["broken.png"]


def test_a_changed_image_is_decoded_again(tmp_path, decoded):
    write_captions(tmp_path / "data", "zog", "zog, hat")
    _, _, before = read(tmp_path)
    decoded.clear()
    save_image(tmp_path / "data" / "a1.png", color=(1, 2, 3))
    _, _, after = read(tmp_path)
    assert decoded == ["a1.png"] and after != before


def test_a_changed_time_is_a_change(tmp_path, decoded):
    write_captions(tmp_path / "data", "zog")
    read(tmp_path)
    decoded.clear()
    os.utime(tmp_path / "data" / "a0.png", ns=(1, 1))
    read(tmp_path)
    assert decoded == ["a0.png"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"version": 1, "files": []}', '{"version": 2, "files": {}}', '{"version": 1}', "[" * 10_000],
)
def test_a_damaged_index_is_an_empty_one(tmp_path, decoded, text):
    write_captions(tmp_path / "data", "zog")
    first = read(tmp_path)
    (tmp_path / "cache" / "images.json").write_text(text)
    assert read(tmp_path) == first and decoded == ["a0.png"] * 2


@pytest.mark.parametrize("entry", [None, 5, [], [1, 2], {}, ["size"]])
def test_a_damaged_entry_is_unknown(tmp_path, decoded, entry):
    write_captions(tmp_path / "data", "zog")
    first = read(tmp_path)
    index = tmp_path / "cache" / "images.json"
    values = json.loads(index.read_text())
    values["files"] = dict.fromkeys(values["files"], entry)
    index.write_text(json.dumps(values))
    assert read(tmp_path) == first and decoded == ["a0.png"] * 2


def test_a_folder_that_cannot_be_written_to_costs_only_time(tmp_path, decoded):
    write_captions(tmp_path / "data", "zog")
    (tmp_path / "cache").write_text("a file")
    images, _, _ = read(tmp_path)
    assert len(images) == 1 and not images[0].flaws


def test_results_come_in_order_and_the_cost_is_limited():
    lock, now, most = threading.Lock(), [0], [0]
    gate = threading.Event()

    def work(item):
        with lock:
            now[0] += item
            most[0] = max(most[0], now[0])
        gate.wait(0.001 * (item % 3))
        with lock:
            now[0] -= item
        return item

    items = [1, 5, 2, 9, 30, 1, 1, 4, 8, 2] * 3
    assert list(in_order(work, items, cost=lambda item: item, limit=10)) == items
    assert most[0] == 30


def test_an_error_comes_out_at_its_place():
    def work(item):
        if item == 3:
            raise ValueError("three")
        return item

    results = in_order(work, range(9), cost=lambda _: 1, limit=9)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_without_threads_the_work_is_done_all_the_same(monkeypatch):
    def no_thread(_self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert list(in_order(lambda item: 2 * item, range(5), cost=lambda _: 1, limit=2)) == [0, 2, 4, 6, 8]
