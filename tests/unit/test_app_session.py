"""The session: one run at a time, each ends with a message, and everything is restored before it is over."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lib_pivotal.app import session as session_module
from lib_pivotal.app.runs import load_last
from lib_pivotal.app.session import Busy, Session, session_for
from lib_pivotal.app.status import IDLE, RunStatus
from lib_pivotal.core.errors import ConfigError, HostError, PivotalError, Problem, TrainingDiverged
from lib_pivotal.core.events import Prepared, SampleReady, Saved, StepDone, Validated
from tests.ui.fake_host import FakeHost, GatedEngine, good_config, write_images


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path / "webui")


@pytest.fixture
def config(tmp_path: Path):
    return good_config(write_images(tmp_path / "images"))


def run(host, config, engine) -> Session:
    session = Session(host, engine)
    session.start(config)
    session.join(5)
    return session


def wait_for(session: Session, state: str) -> None:
    deadline = time.monotonic() + 5
    while session.status()["state"] != state:
        assert time.monotonic() < deadline, session.status()["state"]
        time.sleep(0.005)


def test_a_run_ends_with_a_message_and_files(host, config):
    session = run(host, config, GatedEngine())
    status = session.status()
    assert status["state"] == "done"
    assert status["words"] == "<lora:zog-bundle:1> zog"
    assert host.log == ["enter queue", "borrow", "give back", "leave queue"]
    assert host.written == [Path(status["bundle_path"])]
    folder = Path(status["run_folder"])
    assert folder.parent == host.data_root() / "runs"
    assert "saved" in (folder / "log.txt").read_text()
    assert load_last(host.data_root()) == config
    assert [type(event).__name__ for event in host.events][-1] == "Finished"
    json.dumps(status, allow_nan=False)
    assert set(status) == set(IDLE)


def test_a_queued_run_waits_and_can_be_stopped(host, config):
    session = Session(host, GatedEngine())
    with host.queue:
        session.start(config)
        wait_for(session, "queued")
        assert session.stop()
        assert session.status()["is_stopping"]
        with pytest.raises(Busy):
            session.start(config)
    session.join(5)
    assert session.status()["state"] == "stopped"
    assert session.status()["bundle_path"] is None
    assert "borrow" not in host.log


def test_stop_keeps_and_discard_does_not(host, config):
    for discard, state in ((False, "stopped"), (True, "discarded")):
        engine = GatedEngine(gated=True)
        session = Session(host, engine)
        session.start(config)
        engine.allow(2)
        wait_for(session, "training")
        assert session.stop(discard=discard)
        session.join(5)
        assert session.status()["state"] == state
        assert bool(session.status()["bundle_path"]) != discard
        assert not session.stop()
        (host.lora_folder() / "zog-bundle.safetensors").unlink(missing_ok=True)


def test_only_one_of_many_starts_wins(host, config, monkeypatch):
    # All of them have finished their checks before the first one starts.
    together = threading.Barrier(8)
    monkeypatch.setattr(host, "problems", lambda config: together.wait(5) * [])
    session = Session(host, GatedEngine(gated=True))
    results: list[str] = []

    def start() -> None:
        try:
            session.start(config)
            results.append("started")
        except Busy:
            results.append("busy")

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.stop(discard=True)
    session.join(5)
    assert sorted(results) == ["busy"] * 7 + ["started"]
    assert len(list((host.data_root() / "runs").iterdir())) == 1


def test_all_problems_come_before_the_start(host, config, tmp_path):
    host.obstacles = [Problem("webui", "error", "Too little memory.", "Buy more.")]
    session = Session(host, GatedEngine())
    bad = good_config(tmp_path / "nowhere", output_name="", rank=-1)
    with pytest.raises(ConfigError) as caught:
        session.start(bad)
    fields = {problem.field for problem in caught.value.problems}
    assert {"webui", "output_name", "rank"} <= fields
    assert len(fields) >= 4
    assert session.status() == IDLE
    assert not host.data_root().exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (HostError("The model was exchanged.", hint="Start again."), ["exchanged", "Start again."]),
        (ValueError("surprise"), ["ValueError: surprise", "log"]),
    ],
)
def test_a_failure_is_reported_and_logged(host, config, error, words):
    session = run(host, config, GatedEngine(error=error))
    status = session.status()
    assert status["state"] == "failed"
    assert not status["is_active"]
    for word in words:
        assert word in status["message"] + " " + status["hint"]
    assert "Traceback" in Path(status["log_path"]).read_text()
    assert host.log[-2:] == ["give back", "leave queue"]
    assert status["warnings"] == ["<b>careful</b>"]


def test_files_saved_by_a_failed_run_are_reported(host, config):
    class SavesThenFails(GatedEngine):
        def __call__(self, *arguments) -> None:
            super().__call__(*arguments)
            raise TrainingDiverged(3, hint="Lower the rates.")

    session = run(host, config, SavesThenFails())
    assert session.status()["state"] == "failed"
    assert session.status()["words"] == "<lora:zog-bundle:1> zog"
    assert len(host.written) == 1


def test_a_folder_that_cannot_be_written_is_named(host, config):
    host.data_root().parent.mkdir(parents=True, exist_ok=True)
    host.data_root().write_text("a file is in the way")
    with pytest.raises(PivotalError, match="pivotal-tuning cannot be written"):
        Session(host, GatedEngine()).start(config)


def test_the_log_of_a_run_ends_with_it(host, config):
    logger = logging.getLogger("pivotal")
    before = (list(logger.handlers), logger.level)
    run(host, config, GatedEngine())
    assert (list(logger.handlers), logger.level) == before


def test_the_session_outlives_the_host_object(host, config, monkeypatch):
    monkeypatch.setattr(session_module, "_current", [])
    session = session_for(host)
    session._engine = GatedEngine(gated=True)
    session.start(config)
    other = FakeHost(host.data_root().parent)
    assert session_for(other) is session
    assert session.host is host
    session.stop(discard=True)
    session.join(5)
    assert session_for(other).host is other
    assert session.status()["state"] == "discarded"


def test_losses_are_thinned_out_and_never_nan(config, tmp_path):
    status = RunStatus(config, "task(x)", tmp_path)
    status.handle(Prepared(0, 2600, 1))
    for step in range(1, 2601):
        status.handle(StepDone(step, math.nan if step % 10 == 0 else 2.0 + step % 2))
    points = status.snapshot()["losses"]
    assert 400 < len(points) <= 500
    assert points[-1][0] == 2599
    assert all(math.isfinite(number) for point in points for number in point)
    assert points[-1][2] == pytest.approx(2.5, abs=0.1)


def test_measurements_are_in_the_status_and_thinned_out(config, tmp_path):
    status = RunStatus(config, "task(x)", tmp_path)
    status.handle(Prepared(0, 2600, 1))
    for step in range(2601):
        status.handle(Validated(step, 0.5, name_only=0.75))
    measured = status.snapshot()["validation"]
    assert 400 < len(measured) <= 500
    assert measured[-1] == {"step": 2600, "caption": 0.5, "name_only": 0.75, "initialization": None}
    json.dumps(status.snapshot())


def test_time_left_follows_the_pace(config, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("lib_pivotal.app.pace.time.monotonic", lambda: now[0])
    status = RunStatus(config, "task(x)", tmp_path)
    status.handle(Prepared(50, 100, 1))
    now[0] += 30.0
    status.handle(SampleReady(50, 0, "zog", Image.new("RGB", (8, 8)), ""))
    for step in range(51, 61):
        now[0] += 2.0
        status.handle(StepDone(step, 1.0))
    assert status.snapshot()["seconds_per_step"] == pytest.approx(2.0)
    # 40 steps, and the samples after the last one.
    assert status.snapshot()["eta_s"] == pytest.approx(80.0 + 30.0)


def test_time_left_includes_samples_measurements_and_saves(config, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("lib_pivotal.app.pace.time.monotonic", lambda: now[0])
    config = replace(config, sample_every=10, sample_prompts="a\nb", validate_every=20, save_every=15, step_bundles=9)
    status = RunStatus(config, "task(x)", tmp_path)

    def after(seconds: float, event) -> None:
        now[0] += seconds
        status.handle(event)

    after(9.0, Prepared(0, 45, 1))
    image = Image.new("RGB", (8, 8))
    for index in (0, 1):
        after(4.0, SampleReady(0, index, "a", image, ""))
    for step in range(1, 21):
        after(1.0, StepDone(step, 1.0))
        if step in (10, 20):
            for index in (0, 1):
                after(6.0 if step == 20 else 4.0, SampleReady(step, index, "a", image, ""))
        if step == 15:
            after(7.0, Saved(step, "bundle", tmp_path / "x.safetensors"))
            after(3.0, Saved(step, "state", tmp_path / "y"))
            after(2.0, Saved(step, "step", tmp_path / "z"))
        if step == 20:
            after(5.0, Validated(step, 0.5))
    after(1.0, StepDone(21, 1.0))
    status = status.snapshot()
    assert status["seconds_per_step"] == pytest.approx(1.0)
    samples, per_sample = 3 * 2, (4 * 4 + 2 * 6) / 6
    # Samples after steps 30, 40 and 45, saves after 30 and 45, measurements after 40 and 45, and
    # step 40 is kept to choose from.
    assert status["eta_s"] == pytest.approx(24 * 1.0 + samples * per_sample + 2 * 10.0 + 2 * 5.0 + 2.0)


def test_norms_of_embeddings_are_kept_and_thinned_out(config, tmp_path):
    status = RunStatus(config, "task(x)", tmp_path)
    status.handle(Prepared(0, 3000, 1))
    for step in range(1, 3001):
        status.handle(StepDone(step, 1.0, embedding_norms={"zog": 1 + step / 3000, "mib": math.nan}))
    norms = status.snapshot()["norms"]
    assert 60 <= len(norms["steps"]) <= 130
    assert norms["steps"] == sorted(norms["steps"]) and norms["steps"][-1] == 3000
    assert norms["names"]["zog"][-1] == pytest.approx(2.0)
    assert set(norms["names"]["mib"]) == {None}
    json.dumps(norms, allow_nan=False)


def test_what_a_failed_step_held_is_free_before_the_model_is_given_back(host, config):
    """The activations of a step that ran out of memory would otherwise fill the GPU while it is needed."""

    class Activations:
        pass

    alive, at_the_end = weakref.WeakSet(), []

    def step() -> None:
        activations = Activations()
        alive.add(activations)
        raise RuntimeError("CUDA out of memory")

    def engine(*_) -> None:
        setup = Activations()
        alive.add(setup)
        try:
            step()
        except RuntimeError as error:
            raise HostError("Out of memory.") from error

    give_back = host.borrow

    @contextlib.contextmanager
    def borrow(*arguments):
        with give_back(*arguments) as borrowed:
            try:
                yield borrowed
            finally:
                at_the_end.append(len(alive))

    host.borrow = borrow
    session = run(host, config, engine)
    assert session.status()["message"] == "Out of memory."
    assert at_the_end == [0]
