"""Fusing in the background of a webui: its states, its turn in the queue, and what is refused at once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.app.bundle_library import Destination
from lib_pivotal.app.fusing import FuseChoices, Fusing, read_fuse_choices
from lib_pivotal.app.session import Busy, Session
from lib_pivotal.core.errors import BundleError, ConfigError, Interrupted, Problem
from lib_pivotal.core.fuse.fusing import FuseResult
from lib_pivotal.core.fuse.report import BundleReport
from lib_pivotal.core.ports import LoraTarget
from tests.ui.fake_host import FakeHost, GatedEngine


class FakeFuse:
    """Writes a file after ``gate`` has been released, or fails."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.error: BaseException | None = None
        self.calls: list[dict] = []

    def __call__(self, paths, model, out, *, progress, stopped, **options) -> FuseResult:
        assert model == "the model"
        self.calls.append({"paths": list(paths), "out": out, **options})
        progress("recording inputs", 1, 8)
        while not self.gate.acquire(timeout=0.02):
            if stopped():
                raise Interrupted("Fusing was stopped; no file was written.")
        if self.error is not None:
            raise self.error
        out.write_bytes(b"fused")
        report = BundleReport("a", ["zog"])
        report.add(LoraTarget("lora_unet_x", "unet", "attention", torch.nn.Linear(2, 2)), 1.0, 0.01, 0.25)
        return FuseResult(out, [Problem("a", "warning", "Careful.", "")], [report])


@pytest.fixture
def host(tmp_path):
    host = FakeHost(tmp_path)
    for name in ("a", "b"):
        save_file({"x": torch.zeros(1)}, host.lora_folder() / f"{name}.safetensors", {"ss_clip_skip": "2"})
    return host


@pytest.fixture
def fuse():
    return FakeFuse()


@pytest.fixture
def fusing(host, fuse):
    fusing = Fusing(Session(host, GatedEngine()), fuse)
    yield fusing
    fusing.stop()
    fusing.join(5)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_fused_bundle_is_written_while_the_webui_waits(fusing, fuse, host):
    task_id = fusing.start(FuseChoices(("a", "b"), rank=8, data_folder="images"))
    wait_until(lambda: fusing.status()["done"] == 1)
    status = fusing.status()
    assert (status["state"], status["stage"], status["total"]) == ("running", "recording inputs", 8)
    assert status["task_id"] == task_id and host.queue.locked()
    fuse.gate.release()
    fusing.join(10)
    status, out = fusing.status(), host.lora_folder() / "a-b.safetensors"
    assert (status["state"], status["is_active"], status["path"]) == ("done", False, str(out))
    assert status["report"][0]["errors"]["all"] == {"fused": pytest.approx(0.1), "plain_sum": pytest.approx(0.5)}
    assert "Careful." in status["problems"][0]
    assert host.written == [out]
    assert host.log == ["enter queue", "borrow", "give back", "leave queue"]
    (call,) = fuse.calls
    assert [path.stem for path in call["paths"]] == ["a", "b"]
    assert (call["rank"], call["data_folder"], call["overwrite"]) == (8, "images", False)
    assert host.events[0].stage == "recording inputs"


def test_only_one_at_a_time(fusing, fuse):
    fusing.start(FuseChoices(("a", "b")))
    with pytest.raises(Busy):
        fusing.start(FuseChoices(("a", "b")))


def test_it_can_be_stopped_while_it_runs_and_while_it_waits(fusing, fuse, host):
    assert not fusing.stop()
    fusing.start(FuseChoices(("a", "b")))
    wait_until(lambda: fusing.status()["done"] == 1)
    assert fusing.stop()
    fusing.join(10)
    assert fusing.status()["state"] == "stopped" and not host.written
    with host.queue:
        fusing.start(FuseChoices(("a", "b")))
        assert fusing.status()["state"] == "queued"
        assert fusing.stop()
        assert fusing.status()["state"] == "stopped"
    fusing.join(10)
    assert len(fuse.calls) == 1


@pytest.mark.parametrize(
    ("error", "message"), [(BundleError("No good.", hint="Do it."), "No good."), (RuntimeError("?"), "RuntimeError: ?")]
)
def test_a_failure_is_reported_and_the_model_given_back(fusing, fuse, host, error, message):
    fuse.error = error
    fusing.start(FuseChoices(("a", "b")))
    fuse.gate.release()
    fusing.join(10)
    status = fusing.status()
    assert status["state"] == "failed" and message in status["message"] and status["hint"]
    assert host.log[-2:] == ["give back", "leave queue"]


def test_what_cannot_work_is_refused_at_once(fusing, host):
    with pytest.raises(BundleError, match="no longer exists"):
        fusing.start(FuseChoices(("a", "gone")))
    with pytest.raises(BundleError, match="already exists"):
        fusing.start(FuseChoices(("a", "b"), Destination("a")))
    with pytest.raises(ConfigError, match="not a valid file name"):
        fusing.start(FuseChoices(("a", "b"), Destination("<x>")))
    save_file({"x": torch.zeros(1)}, host.lora_folder() / "b.safetensors", {"ss_clip_skip": "1"})
    with pytest.raises(BundleError, match=r"a\.safetensors with clip skip 2 and b\.safetensors with clip skip 1"):
        fusing.start(FuseChoices(("a", "b")))
    save_file({"x": torch.zeros(1)}, host.lora_folder() / "b.safetensors", {"ss_clip_skip": "2"})
    host.obstacles.append(Problem("host", "error", "Not with --lowvram.", ""))
    with pytest.raises(ConfigError, match="lowvram"):
        fusing.start(FuseChoices(("a", "b")))
    assert fusing.status()["state"] == "idle" and not host.log


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "bundles"),
        ({"bundles": ["a"]}, "bundles"),
        ({"bundles": ["a", "a"]}, "bundles"),
        ({"bundles": ["a", 3]}, "bundles"),
        ({"bundles": ["a", "b"], "rank": -1}, "rank"),
        ({"bundles": ["a", "b"], "rank": "8"}, "rank"),
        ({"bundles": ["a", "b"], "else": 1}, "else"),
    ],
)
def test_wrong_requests_are_named(body, field):
    with pytest.raises(ConfigError) as caught:
        read_fuse_choices(body)
    assert caught.value.problems[0].field == field


def test_a_request_with_everything():
    body = {"bundles": ["a", "b"], "name": "c", "overwrite": True, "rank": 4, "data_folder": " images "}
    assert read_fuse_choices(body) == FuseChoices(("a", "b"), Destination("c", overwrite=True), 4, "images")


def test_a_new_name_gets_a_number_where_it_is_taken(fusing, fuse, host):
    (host.lora_folder() / "a-b.safetensors").write_bytes(b"mine")
    fusing.start(FuseChoices(("a", "b")))
    fuse.gate.release()
    fusing.join(10)
    assert Path(fusing.status()["path"]).name != "a-b.safetensors"
    assert (host.lora_folder() / "a-b.safetensors").read_bytes() == b"mine"
