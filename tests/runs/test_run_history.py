"""The list of past runs reads every folder tolerantly, and what can be done with a run loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from lib_pivotal.app.ports import Borrowed
from lib_pivotal.app.run_history import RunHistory
from lib_pivotal.app.run_queue import Busy
from lib_pivotal.app.session import Session
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.metadata import BUNDLE_KEY
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import BundleError, ConfigError, HostError
from lib_pivotal.core.file_lock import locked
from lib_pivotal.core.train.run_record import read_record
from lib_pivotal.core.train.state import load_newest
from tests.runs.harness import ImageMaker
from tests.ui.fake_host import FakeHost, GatedEngine, good_config
from tests.ui.fake_host import write_images as write_small_images
from tests.unit.toy import ToyModel, toy_config, write_images


class ToyHost(FakeHost):
    """A webui whose model is the toy."""

    def borrow(self, config, control):
        return contextlib.nullcontext(Borrowed(ToyModel(), ImageMaker()))

    def taken_names(self):
        return {}


@pytest.fixture
def host(tmp_path: Path) -> ToyHost:
    return ToyHost(tmp_path / "webui")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images")
    return tmp_path / "images"


def run(host, config, **options) -> tuple[Session, str]:
    """Train; returns the session and the name of the run."""
    session = Session(host)
    session.start(config, **options)
    session.join(60)
    assert session.status()["state"] != "failed", session.status()["message"]
    return session, Path(session.status()["run_folder"]).name


def test_a_finished_run_in_the_list(host, images):
    session, name = run(host, toy_config(images, sample_every=4, save_every=2, validation_share=0.3, validate_every=2))
    history = RunHistory(session)
    (item,) = history.summaries()
    assert (item["name"], item["output_name"], item["model"], item["family"]) == (name, "toy", "toy", "sd1")
    assert (item["step"], item["total_steps"], item["state"], item["states"]) == (8, 8, "finished", [8, 6])
    assert item["loss"] > 0 and item["validation"] > 0 and item["states_bytes"] > 1000
    assert Path(item["sample"]).name == "step-000008-0.png"
    one = history.one(name)
    assert [step["step"] for step in one["steps"]] == [2, 4, 6]
    best = min(one["steps"], key=lambda step: step["validation"])
    assert [step["step"] for step in one["steps"] if step["is_best"]] == [best["step"]]
    assert one["config"]["output_name"] == "toy" and len(one["losses"]) == 8
    json.dumps(one, allow_nan=False)


def damaged_folders(runs: Path) -> None:
    """Folders as crashes, other programs and strangers leave them."""
    for name in ("empty", "foreign", "half-20260101-000000", "noise-20260102-000000", "pipes-20260103-000000"):
        (runs / name).mkdir(parents=True)
    (runs / "a file").write_text("")
    (runs / "foreign" / "readme.txt").write_text("x")
    (runs / "half-20260101-000000" / "config.json").write_text('{"output_name": "ha')
    noise = runs / "noise-20260102-000000"
    for file in ("config.json", "run.json", "loss.csv", "validation.csv", "files.json"):
        (noise / file).write_bytes(os.urandom(3000) + b"\n1,2\n\0")
    (noise / "states").write_text("a file")
    (noise / "samples").mkdir()
    (noise / "samples" / "step-000001-0.png").write_text("no image")
    pipes = runs / "pipes-20260103-000000"
    for file in ("config.json", "run.json", "loss.csv", "validation.csv", "files.json"):
        os.mkfifo(pipes / file)
    (pipes / "states").mkdir()
    os.mkfifo(pipes / "states" / "state-000004.safetensors")
    (runs / "odd-99999999-999999").mkdir()
    (runs / "odd-99999999-999999" / "run.json").write_text('{"step": -3, "outcome": 5, "seconds_per_step": 1e999}')


def test_damaged_foreign_and_half_written_folders_never_break_the_list(host, images):
    damaged_folders(host.data_root() / "runs")
    history = RunHistory(Session(host))
    listed = {item["name"]: item for item in history.summaries()}
    assert set(listed) == {
        "half-20260101-000000", "noise-20260102-000000", "pipes-20260103-000000", "odd-99999999-999999"
    }  # fmt: skip
    assert {item["state"] for item in listed.values()} == {"interrupted"}
    assert "not JSON" in listed["half-20260101-000000"]["problem"]
    for name in listed:
        one = history.one(name)
        assert one["config"] is None and one["steps"] == []
        with pytest.raises(ConfigError):
            history.resume(name)
    for name in ("", "empty", "../runs", ".", "none"):
        with pytest.raises(ConfigError):
            history.one(name)


def test_states_of_runs_that_ended_in_other_ways(tmp_path):
    host = FakeHost(tmp_path / "webui")
    config = good_config(write_small_images(tmp_path / "images"), if_exists="number")

    def state_of(session: Session) -> str:
        return RunHistory(session).summary(Path(session.status()["run_folder"]).name)["state"]

    for error, discard, expected in ((HostError("Gone."), False, "failed"), (None, True, "discarded"),
                                     (None, False, "stopped")):  # fmt: skip
        session = Session(host, GatedEngine(gated=error is None, error=error))
        session.start(config)
        if error is None:
            assert state_of(session) == "running"
            session.stop(discard=discard)
        session.join(5)
        assert state_of(session) == expected
    folder = Path(session.status()["run_folder"])
    # As if the computer had been switched off: the folder says that it began and nothing else.
    (folder / "run.json").write_text('{"family": "sd1", "total_steps": 6}')
    assert state_of(session) == "interrupted"
    with locked(folder / ".lock"):
        assert state_of(session) == "running"
    failed = [item for item in RunHistory(session).summaries() if item["state"] == "failed"]
    assert failed[0]["message"] == "Gone."


def test_continuing_equals_one_long_run_bit_for_bit(host, images, tmp_path):
    whole = toy_config(images, steps=8, save_every=3)
    _, long_run = run(host, whole)
    other = ToyHost(tmp_path / "other")

    class StopsAtThree(ToyHost):
        def borrow(self, config, control):
            class Model(ToyModel):
                def poll_requests(self) -> None:
                    super().poll_requests()
                    if self.polls > 6:
                        control.stop()

            return contextlib.nullcontext(Borrowed(Model(), ImageMaker()))

    session, name = run(StopsAtThree(tmp_path / "other"), whole)
    assert session.status()["state"] == "stopped"
    assert 0 < (stopped := session.status()["step"]) < 8
    session.host = other
    history = RunHistory(session)
    history.resume(name)
    session.join(60)
    status = session.status()
    assert (status["state"], status["step"]) == ("done", 8), status["message"]
    assert Path(status["run_folder"]).name == name and history.names() == [name]
    before, after = (
        load_newest(root.data_root() / "runs" / folder / "states") for root, folder in ((host, long_run), (other, name))
    )
    assert before.tensors.keys() == after.tensors.keys()
    assert all(torch.equal(before.tensors[key], after.tensors[key]) for key in before.tensors)
    # A later step of a run that ended is possible, and fewer or as many are not.
    with pytest.raises(ConfigError, match="finished all of its 8 steps"):
        history.resume(name)
    history.resume(name, steps=10)
    session.join(60)
    assert history.summary(name)["step"] == 10 and stopped < 10
    assert sorted(path.name for path in other.lora_folder().glob("*.safetensors"))[0] == "toy-000003.safetensors"


def test_a_run_continues_only_with_settings_that_fit(host, images):
    session, name = run(host, toy_config(images))
    history = RunHistory(session)
    config, _ = history.config(name)
    with pytest.raises(ConfigError) as caught:
        history.resume(name, config=replace(config, steps=12, unet_lr=1e-3, rank=8))
    assert {problem.field for problem in caught.value.problems} == {"unet_lr", "rank"}
    history.resume(name, config=replace(config, steps=12, sample_prompts="new", save_every=2))
    session.join(60)
    assert session.status()["state"] == "done"
    assert [step["step"] for step in history.one(name)["steps"]] == [10]
    history.delete_states(name)
    with pytest.raises(ConfigError, match="no saved state"):
        history.resume(name, steps=20)


def test_a_run_that_cannot_continue_stays_as_it_is(host, images):
    session, name = run(host, toy_config(images))
    history = RunHistory(session)
    (images / "00.txt").write_text("zog_x, changed")
    history.resume(name, steps=12)
    session.join(60)
    assert session.status()["state"] == "failed" and "have changed" in session.status()["message"]
    assert (history.summary(name)["state"], history.summary(name)["step"]) == ("finished", 8)


def test_deleting_states_frees_their_space_and_nothing_else(host, images):
    session, name = run(host, toy_config(images, save_every=4))
    history = RunHistory(session)
    size = history.summary(name)["states_bytes"]
    folder = host.data_root() / "runs" / name
    (folder / "states" / "notes.txt").write_text("mine")
    before = {path for path in folder.rglob("*") if "state-" not in path.name}
    assert history.delete_states(name) == size > 0
    assert set(folder.rglob("*")) == before
    assert len(list(host.lora_folder().glob("*.safetensors"))) == 2
    assert history.summary(name)["states"] == []
    with locked(folder / ".lock"), pytest.raises(Busy):
        history.delete_states(name)


def test_a_chosen_step_becomes_the_file_and_nothing_is_lost(host, images):
    session, name = run(host, toy_config(images, save_every=3))
    history, loras = RunHistory(session), host.lora_folder()
    last = read_bundle(loras / "toy.safetensors")
    path = history.choose_step(name, 3)
    assert path == loras / "toy.safetensors" and host.written[-1] == path
    chosen, numbered = read_bundle(path), read_bundle(loras / "toy-000003.safetensors")
    assert all(torch.equal(chosen.lora[key], numbered.lora[key]) for key in numbered.lora)
    assert json.loads(chosen.metadata[BUNDLE_KEY])["chosen_step"] == 3
    assert json.loads(chosen.metadata[BUNDLE_KEY])["settings"]["steps"] == 8
    assert (chosen.metadata["ss_steps"], chosen.metadata["ss_output_name"]) == ("3", "toy")
    # The last step is still there, under its number, and can be chosen again.
    assert [step["step"] for step in history.one(name)["steps"]] == [3, 6, 8]
    history.choose_step(name, 8)
    again = read_bundle(path)
    assert all(torch.equal(again.lora[key], last.lora[key]) for key in last.lora)
    assert sorted(file.name for file in loras.glob("*.safetensors")) == [
        "toy-000003.safetensors", "toy-000006.safetensors", "toy.safetensors"
    ]  # fmt: skip
    for step in (0, 4, -1):
        with pytest.raises(ConfigError, match="There are: 3, 6, 8"):
            history.choose_step(name, step)


def test_the_steps_to_choose_from_are_kept_in_the_run_folder_alone(host, images):
    session, name = run(host, toy_config(images, step_bundles=4, save_every=4, sample_every=2))
    history, loras = RunHistory(session), host.lora_folder()
    kept = host.data_root() / "runs" / name / "steps"
    assert sorted(file.name for file in kept.iterdir()) == ["toy-000002.safetensors", "toy-000006.safetensors"]
    assert {file.stem for file in loras.iterdir()} == {"toy", "toy-000004"}
    steps = history.one(name)["steps"]
    assert [step["step"] for step in steps] == [2, 4, 6] and all(step["samples"] for step in steps)
    chosen = read_bundle(history.choose_step(name, 6))
    assert chosen.metadata["ss_steps"] == "6" and (kept / "toy-000008.safetensors").is_file()
    assert {file.stem for file in loras.iterdir()} == {"toy", "toy-000004"}


def test_a_run_of_an_earlier_release_continues_without_steps_to_choose_from(host, images):
    session, name = run(host, toy_config(images))
    file = host.data_root() / "runs" / name / "config.json"
    settings = json.loads(file.read_text())
    del settings["step_bundles"]
    file.write_text(json.dumps(settings))
    history = RunHistory(session)
    assert history.resumed_config(name)[0].step_bundles == 0
    assert history.config(name)[0].step_bundles == TrainConfig().step_bundles == 8


def test_a_chosen_step_never_replaces_the_file_of_somebody_else(host, images):
    session, name = run(host, toy_config(images, save_every=3))
    history, loras = RunHistory(session), host.lora_folder()
    (loras / "toy.safetensors").write_bytes(b"mine")
    with pytest.raises(BundleError, match="not from this run"):
        history.choose_step(name, 3)
    assert (loras / "toy.safetensors").read_bytes() == b"mine"
    history.choose_step(name, 3, overwrite=True)
    assert read_bundle(loras / "toy.safetensors").metadata["ss_steps"] == "3"
    (loras / "toy-000006.safetensors").write_bytes(b"changed")
    with pytest.raises(BundleError, match="was changed"):
        history.choose_step(name, 6)


def test_step_0_can_never_be_chosen(host, images):
    session, name = run(host, toy_config(images))
    folder = host.data_root() / "runs" / name
    (folder / "files.json").write_text('{"bundle": "toy", "files": {"toy-000000.safetensors": ["x"]}}')
    (host.lora_folder() / "toy-000000.safetensors").write_bytes(b"x")
    assert RunHistory(session).one(name)["steps"] == []


def test_two_runs_are_compared(host, images):
    session, first = run(host, toy_config(images))
    session, second = run(host, toy_config(images, if_exists="number", rank=8, steps=4))
    compared = RunHistory(session).compare(first, second)
    assert [run["name"] for run in compared["runs"]] == [first, second]
    differences = {item["setting"]: item["values"] for item in compared["differences"]}
    assert differences == {"rank": [4, 8], "steps": [8, 4], "if_exists": ["refuse", "number"]}


def test_the_pace_of_a_run_like_this_one_is_known(host, images):
    session, name = run(host, toy_config(images, steps=25))
    folder = host.data_root() / "runs" / name
    measured = read_record(folder).seconds_per_step
    history = RunHistory(session)
    assert history.pace(toy_config(images, rank=9), "sd1") == measured > 0
    assert history.pace(toy_config(images, batch_size=3), "sd1") == 0
    assert history.pace(toy_config(images), "sdxl") == 0
    # A few steps say nothing about the pace.
    _, name = run(host, toy_config(images, steps=19, resolution=128, if_exists="number"))
    assert read_record(host.data_root() / "runs" / name).seconds_per_step == 0


def test_an_image_that_is_no_image_is_still_a_run(host, images):
    session, name = run(host, toy_config(images, sample_every=8))
    Image.new("RGB", (8, 8)).save(host.data_root() / "runs" / name / "samples" / "other.png")
    assert Path(RunHistory(session).summary(name)["sample"]).name == "step-000008-0.png"
