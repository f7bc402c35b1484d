"""Which files belong to a run: it gets its own names again after a kill, and never those of other files."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.events import Control, Saved, Warned
from lib_pivotal.core.train.own_files import OwnFiles
from lib_pivotal.core.train.run import Folders
from tests.runs.harness import Listener, folders, rewrite_state, run, stopped_run
from tests.unit.toy import toy_config


class KilledError(BaseException):
    """Ends a run like a kill, as far as possible within a process."""


def bundles(where: Folders) -> list[str]:
    return sorted(path.name for path in where.bundles.glob("*.safetensors"))


def test_a_run_killed_between_bundle_and_state_gets_its_own_name_again(tmp_path, data, monkeypatch):
    where = folders(tmp_path)
    config = toy_config(data, steps=12, save_every=4)
    run(toy_config(data, steps=5, save_every=4), where)

    def killed(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("lib_pivotal.core.train.output.save_state", killed)
        with pytest.raises(KilledError):
            run(config, where, resume_from=where.run)
    assert bundles(where) == ["toy-000004.safetensors", "toy-000008.safetensors", "toy.safetensors"]
    outcome, listener = run(config, where, resume_from=where.run)
    assert outcome.bundle_path.name == "toy.safetensors" and not listener.of(Warned)
    assert bundles(where) == ["toy-000004.safetensors", "toy-000008.safetensors", "toy.safetensors"]


def test_a_number_chosen_at_the_start_is_kept(tmp_path, data, monkeypatch):
    where = folders(tmp_path)
    where.bundles.mkdir()
    (where.bundles / "toy.safetensors").write_bytes(b"of another run")
    config = toy_config(data, steps=12, if_exists="number", save_every=2)
    seen = []

    class Reader(Listener):
        def handle(self, event):
            super().handle(event)
            if isinstance(event, Saved) and event.kind == "bundle":
                seen.append(json.loads((where.run / "files.json").read_text())["bundle"])

    control = Control()
    run(config, where, listener=Reader(control, 4), control=control)
    assert seen and set(seen) == {"toy-2"}, "from the first numbered bundle on"
    outcome, _ = run(config, where, resume_from=where.run)
    assert outcome.bundle_path.name == "toy-2.safetensors"
    assert [name for name in bundles(where) if "0" not in name] == ["toy-2.safetensors", "toy.safetensors"]


def test_a_bundle_whose_sidecar_failed_still_belongs_to_its_run(tmp_path, data):
    where = folders(tmp_path)
    (where.bundles / "toy.json").mkdir(parents=True)
    config = toy_config(data, steps=8)
    stopped_run(config, where)
    outcome, _ = run(config, where, resume_from=where.run)
    assert bundles(where) == ["toy.safetensors"] and outcome.step == 8


def without_written(where: Folders) -> None:
    for path in (where.run / "states").iterdir():
        rewrite_state(path, facts={"written": None})


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda where: None, ["toy.safetensors"]),
        # The first releases did not record their files, so none belongs to the run.
        (without_written, ["toy-2.safetensors", "toy.safetensors"]),
    ],
)
def test_run_folders_of_earlier_releases_can_be_resumed(tmp_path, data, change, names):
    where = folders(tmp_path)
    config = toy_config(data, steps=8)
    stopped_run(config, where)
    (where.run / "files.json").unlink()
    change(where)
    outcome, _ = run(config, where, resume_from=where.run)
    assert outcome.step == 8 and bundles(where) == names


def test_a_run_in_a_moved_results_folder_resumes_where_it_is(tmp_path, data):
    old, new = tmp_path / "old", tmp_path / "new"
    where = Folders(old / "runs" / "toy-1", old, old / "cache")
    where.run.mkdir(parents=True)
    config = toy_config(data, steps=8)
    stopped_run(config, where)
    old.rename(new)
    moved = Folders(new / "runs" / "toy-1", new, new / "cache")
    outcome, listener = run(config, moved, resume_from=moved.run)
    assert outcome.bundle_path == new / "toy.safetensors" and bundles(moved) == ["toy.safetensors"]
    assert not old.exists()
    assert [str(new) in event.message for event in listener.of(Warned)] == [True]


NAMES = [
    "../precious",
    "/etc/precious",
    "..\\precious",
    "C:\\precious",
    "sub/precious",
    "con",
    "",
    ".",
    "a\nb",
    "x" * 300,
]


@pytest.mark.parametrize("name", NAMES)
def test_only_plain_names_are_taken_from_records(tmp_path, name):
    files = {f"{name}.safetensors": ["0"]}
    (tmp_path / "files.json").write_text(json.dumps({"version": 1, "bundle": name, "files": files}))
    own = OwnFiles(tmp_path, tmp_path / "bundles", [].append)
    own.load({"bundle_path": "/somewhere/hero.safetensors", "written": {}})
    assert own.bundle_name == "hero" and own.facts() == {}
    (tmp_path / "files.json").unlink()
    own.load({"bundle_path": f"{name}.safetensors", "written": {f"{name}.safetensors": "0"}})
    assert own.bundle_name in (None, "precious")
    assert all(Path(path).parent == tmp_path / "bundles" for path in own.facts())


@pytest.mark.parametrize("place", ["files.json", "state"])
def test_a_foreign_run_folder_writes_only_where_the_user_chose(tmp_path, data, place):
    where = folders(tmp_path)
    stopped_run(toy_config(data, steps=8), where)
    precious = tmp_path / "precious.safetensors"
    precious.write_bytes(b"precious")
    record = where.run / "files.json"
    if place == "state":
        record.unlink()
        for path in (where.run / "states").iterdir():
            rewrite_state(path, facts={"bundle_path": str(precious), "written": {str(precious): "0"}})
    else:
        content = json.loads(record.read_text())
        record.write_text(json.dumps({**content, "bundle": "../precious", "files": {"../precious.safetensors": ["0"]}}))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    outcome, _ = run(toy_config(data, steps=8, if_exists="overwrite"), where, resume_from=where.run)
    assert outcome.bundle_path.parent == where.bundles
    assert precious.read_bytes() == b"precious"
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all(where.bundles in path.parents or where.run in path.parents for path in new)


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 100_000, '{"files": 1, "bundle": 2}', '{"files": {"toy.png": 3}}', "\udcff"]
)
def test_an_unreadable_record_is_treated_as_missing(tmp_path, text):
    (tmp_path / "files.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    own = OwnFiles(tmp_path, tmp_path, [].append)
    own.load({"bundle_path": "C:\\Lora\\hero.safetensors"})
    assert own.bundle_name == "hero" and own.facts() == {}


def test_names_are_recorded_before_the_files_get_them(tmp_path):
    own, contents = OwnFiles(tmp_path, tmp_path, [].append), tmp_path / "contents"
    path = tmp_path / "hero.safetensors"

    def again() -> OwnFiles:
        other = OwnFiles(tmp_path, tmp_path, [].append)
        other.load({"bundle_path": ""})
        return other

    for text in (b"one", b"two", b"three"):
        contents.write_bytes(text)
        own.claim(path, contents)
        # Killed before the file gets its name, and after.
        assert again().has(path) is path.exists()
        shutil.copy(contents, path)
        assert again().has(path)
    path.write_bytes(b"somebody else's")
    assert not own.has(path) and not again().has(path)


def test_a_record_that_cannot_be_written_is_one_warning_and_the_bundle_is_saved(tmp_path, data, monkeypatch):
    where = folders(tmp_path)
    write_text = Path.write_text

    def full(path, text, *arguments, **options):
        if ".files.json" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_text(path, text, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    outcome, listener = run(toy_config(data, save_every=4), where)
    assert read_bundle(outcome.bundle_path).lora
    assert ["files.json" in event.message for event in listener.of(Warned)] == [True]
    monkeypatch.undo()
    # The state records it as well.
    outcome, _ = run(toy_config(data, steps=12, save_every=4), where, resume_from=where.run)
    assert outcome.bundle_path.name == "toy.safetensors"


def test_a_file_that_cannot_be_read_is_not_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "toy.safetensors"
    path.write_bytes(b"x")
    own = OwnFiles(tmp_path, tmp_path, [].append)
    own.claim(path, path)
    assert own.has(path)

    def locked(*_arguments, **_options):
        raise PermissionError(errno.EACCES, "in use")

    monkeypatch.setattr(Path, "open", locked)
    assert not own.has(path)
