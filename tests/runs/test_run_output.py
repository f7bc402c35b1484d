"""What a run writes and what it never changes: full disks, files of others, refused resumes."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.writer import write_bundle
from lib_pivotal.core.errors import BundleError, ConfigError, PivotalError
from lib_pivotal.core.events import Control, Finished, Saved, StepDone, Warned
from lib_pivotal.core.ports import Sample
from lib_pivotal.core.train.recorder import read_losses
from lib_pivotal.core.train.state import State, load_newest, save_state
from tests.runs.harness import ImageMaker, Listener, folders, run, stopped_run
from tests.unit.toy import toy_config


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


# -- full disks


def test_a_full_run_folder_prevents_the_state_but_not_the_bundle(tmp_path, data, monkeypatch):
    monkeypatch.setattr("lib_pivotal.core.train.state.write_tensors", full_disk)
    outcome, listener = run(toy_config(data, save_every=4), folders(tmp_path))
    assert outcome.outcome == "done" and read_bundle(outcome.bundle_path).lora
    warnings = [event.message for event in listener.of(Warned)]
    assert len(warnings) == 2 and all("No space left" in text for text in warnings)
    assert [event.kind for event in listener.of(Saved)] == ["bundle", "bundle"]


def test_a_full_cache_does_not_end_the_run(tmp_path, data, monkeypatch):
    monkeypatch.setattr("lib_pivotal.core.data.latents.write_tensors", full_disk)
    outcome, _ = run(toy_config(data, cache_to_disk=True), folders(tmp_path))
    assert outcome.outcome == "done"


def test_a_full_lora_folder_is_reported_and_the_run_can_be_resumed(tmp_path, data, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("lib_pivotal.core.bundle.writer.write_tensors", full_disk)
        listener = Listener()
        with pytest.raises(BundleError, match="No space left"):
            run(toy_config(data, save_every=4), folders(tmp_path), listener=listener)
    assert len(listener.of(StepDone)) == 8, "a snapshot that cannot be written ends nothing"
    assert len(listener.of(Warned)) == 1
    assert not list((tmp_path / "run-bundles").iterdir())
    where = folders(tmp_path)
    assert load_newest(where.run / "states").step == 8
    outcome, _ = run(toy_config(data, save_every=4), where, resume_from=where.run)
    assert read_bundle(outcome.bundle_path).lora


def test_a_state_on_a_full_disk_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("lib_pivotal.core.train.state.write_tensors", full_disk)
    with pytest.raises(PivotalError, match="No space left"):
        save_state(tmp_path, State(1, {}, {}), 1)


# -- resuming


def test_a_refused_resume_does_not_change_the_run(tmp_path, data):
    where = folders(tmp_path)
    stopped_run(toy_config(data, steps=20), where, at=5)
    # The loss table goes further than the last saved state.
    before = {path: path.read_bytes() for path in where.run.rglob("*") if path.is_file()}
    (where.run / "loss.csv").write_bytes(before[where.run / "loss.csv"] + b"6,0.5,0.1,0,0,0,0,0\n")
    before[where.run / "loss.csv"] = (where.run / "loss.csv").read_bytes()
    with pytest.raises(ConfigError):
        run(toy_config(data, steps=20, seed=9), where, resume_from=where.run)
    assert {path: path.read_bytes() for path in where.run.rglob("*") if path.is_file()} == before
    run(toy_config(data, steps=20), where, resume_from=where.run)
    assert [step for step, _ in read_losses(where.run)] == list(range(1, 21))


def test_a_changed_image_is_noticed_even_if_its_size_is_the_same(tmp_path, data):
    where = folders(tmp_path)
    Image.new("RGB", (64, 64), (1, 2, 3)).save(data / "00.bmp")
    stopped_run(toy_config(data, steps=12), where)
    Image.new("RGB", (64, 64), (200, 2, 3)).save(data / "00.bmp")
    with pytest.raises(ConfigError) as caught:
        run(toy_config(data, steps=12), where, resume_from=where.run)
    assert [problem.field for problem in caught.value.problems] == ["data"]


@pytest.mark.parametrize(("discard", "word"), [(False, "stopped"), (True, "discarded")])
def test_a_stop_before_the_first_step_does_not_count_as_discarding(tmp_path, data, discard, word):
    control = Control()
    control.stop(discard=discard)
    outcome, listener = run(toy_config(data), folders(tmp_path), control=control)
    assert (outcome.outcome, outcome.bundle_path) == (word, None)
    assert [event.outcome for event in listener.of(Finished)] == [word]


def test_a_resumed_run_writes_over_its_own_bundle_only(tmp_path, data):
    where = folders(tmp_path)
    first, _ = stopped_run(toy_config(data, steps=12), where)
    second, listener = stopped_run(toy_config(data, steps=12), where, at=6, resume_from=where.run)
    assert second.bundle_path == first.bundle_path and not listener.of(Warned)
    first.bundle_path.write_bytes(b"another file of this name")
    third, listener = run(toy_config(data, steps=12), where, resume_from=where.run)
    assert first.bundle_path.read_bytes() == b"another file of this name"
    assert third.bundle_path.name == "toy-2.safetensors" and read_bundle(third.bundle_path).lora
    assert ["toy-2.safetensors" in event.message for event in listener.of(Warned)] == [True]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_a_loaded_state_does_not_hold_its_file(tmp_path):
    """Windows refuses to remove a file that is mapped."""
    path = save_state(tmp_path, State(1, {"a": torch.rand(100_000)}, {}), 1)
    state = load_newest(tmp_path)
    assert state.tensors["a"].numel() == 100_000
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_an_old_state_that_cannot_be_removed_does_not_end_the_run(tmp_path, monkeypatch):
    save_state(tmp_path, State(1, {"a": torch.zeros(1)}, {}), 1)
    unlink = Path.unlink

    def locked(path, missing_ok=False):
        if path.name == "state-000001.safetensors":
            raise PermissionError(13, "in use")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", locked)
    save_state(tmp_path, State(2, {"a": torch.zeros(1)}, {}), 1)
    assert load_newest(tmp_path).step == 2


# -- foreign files


def test_a_snapshot_of_another_run_is_kept(tmp_path, data):
    where = folders(tmp_path)
    where.bundles.mkdir()
    foreign = where.bundles / "toy-000004.safetensors"
    foreign.write_bytes(b"another run's")
    outcome, listener = run(toy_config(data, save_every=4), where)
    assert foreign.read_bytes() == b"another run's"
    assert read_bundle(where.bundles / "toy-000004-2.safetensors").lora
    assert outcome.bundle_path.name == "toy.safetensors" and len(listener.of(Warned)) == 1


def test_a_bundle_that_appears_during_the_run_is_kept(tmp_path, data):
    where = folders(tmp_path)

    class Intruder(Listener):
        def handle(self, event) -> None:
            super().handle(event)
            if isinstance(event, StepDone) and event.step == 3:
                where.bundles.mkdir()
                (where.bundles / "toy.safetensors").write_bytes(b"foreign")

    outcome, listener = run(toy_config(data), where, listener=Intruder())
    assert (where.bundles / "toy.safetensors").read_bytes() == b"foreign"
    assert outcome.bundle_path.name == "toy-2.safetensors" and read_bundle(outcome.bundle_path).lora
    assert len(listener.of(Warned)) == 1


def test_notes_and_image_of_the_user_are_kept(tmp_path, data):
    where = folders(tmp_path)
    where.bundles.mkdir()
    notes = {"notes": "für später", "preferred weight": 0.7, "activation text": "old", "sd version": "SD2"}
    (where.bundles / "toy.json").write_text(json.dumps(notes), encoding="utf-8")
    (where.bundles / "toy.png").write_bytes(b"the user's image")
    config = toy_config(data, sample_every=4, sample_prompts="zog_x")
    run(config, where, sampler=ImageMaker())
    found = json.loads((where.bundles / "toy.json").read_text(encoding="utf-8"))
    assert found == {**notes, "activation text": "zog_x", "sd version": "SD1"}
    assert (where.bundles / "toy.png").read_bytes() == b"the user's image"
    # With if_exists="overwrite" the image is replaced; the notes are always kept.
    run(toy_config(data, sample_every=4, if_exists="overwrite"), where, sampler=ImageMaker())
    with Image.open(where.bundles / "toy.png") as image:
        assert image.size == (8, 8)
    assert json.loads((where.bundles / "toy.json").read_text(encoding="utf-8"))["notes"] == "für später"


def test_a_resumed_run_replaces_its_own_image(tmp_path, data):
    where = folders(tmp_path)
    config = toy_config(data, steps=8, sample_every=4, sample_prompts="zog_x")
    stopped_run(config, where, at=5, sampler=ImageMaker())
    image = where.bundles / "toy.png"
    before = image.read_bytes()

    class Other(ImageMaker):
        def make(self, request, embeddings):
            return Sample(Image.new("RGB", (9, 9)), "info")

    run(config, where, sampler=Other(), resume_from=where.run)
    assert image.read_bytes() != before


def test_a_sidecar_that_is_not_json_is_left_alone(tmp_path):
    for text in ("{no json", "[1]"):
        (tmp_path / "my.json").write_text(text)
        write_bundle(tmp_path / "my.safetensors", {}, {}, {}, words="zog", overwrite=True)
        assert (tmp_path / "my.json").read_text() == text


# -- previews


def test_a_failing_preview_does_not_end_the_run(tmp_path, data):
    class Broken:
        def make(self, request, embeddings):
            raise ZeroDivisionError("a bug of an extension")

    outcome, listener = run(toy_config(data, sample_every=4), folders(tmp_path), sampler=Broken())
    assert outcome.outcome == "done"
    assert all("ZeroDivisionError: a bug" in event.message for event in listener.of(Warned)) and listener.of(Warned)
