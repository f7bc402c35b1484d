"""Edits of caption files: shown before they are made, complete or not at all, and undone byte by byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.data import caption_undo
from lib_pivotal.core.data.caption_changes import CaptionChange, CaptionChanger
from lib_pivotal.core.data.caption_edits import plan_descriptions, plan_edits
from lib_pivotal.core.data.caption_undo import CaptionHistory
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.errors import DatasetError
from tests.unit.dataset_files import save_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def history(tmp_path: Path) -> CaptionHistory:
    return CaptionHistory(tmp_path / "undo")


def write(folder: Path, files: dict[str, bytes | str | None]) -> None:
    """Images with their caption files: name of the file → contents; None for an image without one."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, data) in enumerate(files.items()):
        image = folder / name
        if data is not None:
            image.write_bytes(data.encode() if isinstance(data, str) else data)
        if image.suffix != ".png":
            image = image.with_suffix(".png")
        if not image.exists():
            save_image(image, color=(number * 9, 80, 10))


def settings(folder: Path, **changes) -> TrainConfig:
    return TrainConfig(data_folder=str(folder), resolution=64, concepts=(Concept("zog"),), **changes)


def plan(folder: Path, action="add_front", tags="zog", *, only=None, writes=False, **changes):
    config = settings(folder, **changes)
    images = read_dataset(config).images
    chosen = [image for image in images if only is None or image.shown in only]
    changer = CaptionChanger(config, CaptionChange(action, tags))
    return plan_edits(chosen, images, changer.changed, config, title="a title", writes_files=writes)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix not in (".png", ".jpg")}


def test_nothing_is_written_before_it_is_applied(folder, history):
    write(folder, {"a.txt": "hat", "b.caption": "zog, sky", "c.png": None})
    before = contents(folder)
    found = plan(folder)
    assert contents(folder) == before
    assert [(file.path.name, file.old, file.new) for file in found.files] == [
        ("a.txt", "hat", "zog, hat"), ("c.txt", "", "zog"),
    ]  # fmt: skip
    assert found.unchanged == 1
    history.apply(found)
    assert contents(folder) == {"a.txt": b"zog, hat", "b.caption": b"zog, sky", "c.txt": b"zog"}


ODD = {
    "bom.txt": b"\xef\xbb\xbfhat\r\n\r\nsky\r\n",
    "wide.txt": "hut, himmel, gr\u00fcn".encode("utf-16"),
    "bare.txt": "hat, sky, hill".encode("utf-16-le"),
    "plain.txt": "h\u00fct \u9aea\n".encode(),
    "new.png": None,
    "cut.txt": b"hat\nNegative prompt: bad\nSteps: 20, Sampler: Euler",
}


def test_undo_restores_every_byte(folder, history):
    write(folder, ODD)
    before = contents(folder)
    (entry,) = [history.apply(plan(folder))]
    after = contents(folder)
    assert after["bom.txt"] == b"\xef\xbb\xbfzog, hat\r\n\r\nzog, sky\r\n"
    assert after["wide.txt"] == "zog, hut, himmel, gr\u00fcn".encode()
    assert after["cut.txt"] == b"zog, hat\nNegative prompt: bad\nSteps: 20, Sampler: Euler"
    undone = history.undo(entry)
    assert contents(folder) == before
    assert len(undone.restored) == len(before) + 1 and not undone.refused
    assert history.entries() == []


def test_files_that_are_not_utf8_are_named_before_they_become_utf8(folder):
    write(folder, {**ODD, "old.txt": "\u9aea, \u8857".encode("cp932")})
    found = plan(folder, caption_encoding="cp932")
    assert {file.path.name: file.encoding for file in found.files if file.encoding} == {
        "wide.txt": "utf-16-le", "bare.txt": "utf-16-le", "old.txt": "cp932",
    }  # fmt: skip


def test_an_unknown_encoding_is_left_alone(folder, history):
    write(folder, {"old.txt": "\u9aea, \u8857".encode("cp932"), "a.txt": "hat"})
    found = plan(folder)
    assert [file.path.name for file in found.files] == ["a.txt"]
    (reason,) = found.skipped
    assert "cannot be read" in reason and found.skipped[reason] == ("old.png",)


def test_what_has_changed_since_is_not_undone(folder, history):
    write(folder, {"a.txt": "hat", "b.txt": "sky", "c.png": None})
    entry = history.apply(plan(folder))
    (folder / "a.txt").write_text("mine")
    (folder / "c.txt").unlink()
    undone = history.undo(entry)
    # A new file that is gone is as it was before.
    assert [path.name for path in undone.restored] == ["b.txt", "c.txt"]
    assert [path.name for path in undone.refused] == ["a.txt"]
    assert contents(folder) == {"a.txt": b"mine", "b.txt": b"sky"}
    (kept,) = history.entries()
    assert kept.count == 1
    (folder / "a.txt").write_text("zog, hat")
    assert [path.name for path in history.undo(kept.id).restored] == ["a.txt"]


def test_what_has_changed_since_the_preview_is_not_overwritten(folder, history):
    write(folder, {"a.txt": "hat", "b.txt": "sky"})
    found = plan(folder)
    (folder / "b.txt").write_text("mine")
    with pytest.raises(DatasetError, match=r"b\.txt"):
        history.apply(found)
    assert contents(folder) == {"a.txt": b"hat", "b.txt": b"mine"}
    assert history.entries() == []
    (folder / "b.txt").write_text("sky")
    write(folder, {"c.png": None})
    found = plan(folder)
    (folder / "c.txt").write_text("there now")
    with pytest.raises(DatasetError, match=r"c\.txt"):
        history.apply(found)


def test_a_failure_halfway_restores_what_was_written(folder, history, monkeypatch):
    write(folder, {"a.txt": "hat", "b.txt": "sky", "c.txt": "day"})
    original = caption_undo._write

    def fail(path, data):
        if path.name == "c.txt":
            raise OSError(28, "No space left on device")
        original(path, data)

    monkeypatch.setattr(caption_undo, "_write", fail)
    with pytest.raises(DatasetError, match="No space left"):
        history.apply(plan(folder))
    assert contents(folder) == {"a.txt": b"hat", "b.txt": b"sky", "c.txt": b"day"}
    assert history.entries() == []


def test_the_undo_file_is_complete_before_a_caption_changes(folder, history, monkeypatch, tmp_path):
    write(folder, {"a.txt": "hat"})

    def die(path, data):
        raise SystemExit

    monkeypatch.setattr(caption_undo, "_write", die)
    with pytest.raises(SystemExit):
        history.apply(plan(folder))
    monkeypatch.undo()
    (entry,) = CaptionHistory(tmp_path / "undo").entries()
    assert entry.title == "a title"
    # Nothing was changed, so nothing has to be restored.
    assert history.undo(entry.id).refused == () and contents(folder) == {"a.txt": b"hat"}


def test_captions_from_elsewhere_are_not_edited_unless_files_are_wanted(folder, history):
    write(folder, {"a.png": None, "b.txt": "sky", "c.json": '{"caption": "a hill"}'})
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "from metadata"}\n')
    before = contents(folder)
    found = plan(folder)
    assert [file.path.name for file in found.files] == ["b.txt"]
    assert found.elsewhere == ("a.png", "c.png")
    history.apply(plan(folder, writes=True))
    after = contents(folder)
    assert after == {**before, "a.txt": b"zog, from metadata", "b.txt": b"zog, sky", "c.txt": b"zog, a hill"}
    assert {image.caption for image in read_dataset(settings(folder)).images} == {
        "zog, from metadata", "zog, sky", "zog, a hill",
    }  # fmt: skip


def test_a_file_that_would_not_be_read_is_not_written(folder):
    write(folder, {"a.png": None})
    (folder / "meta.json").write_text(json.dumps({"a": {"caption": "from kohya"}, "b": {"caption": "x"}}))
    found = plan(folder, writes=True)
    assert not found.files
    (reason,) = found.skipped
    assert "Captions from" in reason
    assert [file.path.name for file in plan(folder, writes=True, caption_source="txt").files] == ["a.txt"]
    assert [file.path.name for file in plan(folder, writes=True, caption_source="caption").files] == ["a.caption"]


def test_a_shared_caption_is_edited_once_and_both_images_are_named(folder, history):
    write(folder, {"a.txt": "hat"})
    save_image(folder / "a.jpg", color=(1, 2, 3))
    found = plan(folder, only=("a.png",))
    assert [file.images for file in found.files] == [("a.jpg", "a.png")]
    history.apply(plan(folder))
    assert contents(folder) == {"a.txt": b"zog, hat"}


def test_new_captions_of_equal_stems_stay_apart(folder, history):
    save_image(folder / "a.png")
    save_image(folder / "a.jpg", color=(1, 2, 3))
    history.apply(plan(folder))
    assert contents(folder) == {"a.jpg.txt": b"zog", "a.png.txt": b"zog"}
    assert all(image.caption == "zog" for image in read_dataset(settings(folder)).images)


def test_permissions_and_links_stay(folder, history, tmp_path):
    write(folder, {"a.txt": "hat", "b.png": None})
    (folder / "a.txt").chmod(0o600)
    target = tmp_path / "elsewhere.txt"
    target.write_text("sky")
    (folder / "b.txt").symlink_to(target)
    entry = history.apply(plan(folder))
    assert (folder / "a.txt").stat().st_mode & 0o777 == 0o600
    assert (folder / "b.txt").is_symlink() and target.read_text() == "zog, sky"
    history.undo(entry)
    assert (folder / "b.txt").is_symlink() and target.read_text() == "sky"


def test_an_entry_that_does_not_exist_is_explained(history, tmp_path):
    for name in ("none", "../x", ""):
        with pytest.raises(DatasetError, match="no longer"):
            history.undo(name)
    (tmp_path / "undo").mkdir()
    (tmp_path / "undo" / "20260101-000000-aaaaaaaa.json").write_text("{")
    assert history.entries() == []


def test_descriptions_are_added_and_replace_nothing(folder):
    write(folder, {"a.txt": "zog, hat", "b.png": None, "c.txt": "sky", "d.json": '{"caption": "x"}'})
    save_image(folder / "a.jpg", color=(1, 2, 3))
    images = read_dataset(settings(folder)).images
    texts = {"a.png": "Hat, tree", "a.jpg": "fence", "b.png": "hill, tree", "c.png": "", "d.png": "tree"}
    found = plan_descriptions(texts, images, settings(folder), title="described")
    assert {file.path.name: file.new for file in found.files} == {"a.txt": "zog, hat, fence", "b.txt": "hill, tree"}
