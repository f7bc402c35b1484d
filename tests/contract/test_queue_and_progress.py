"""The webui's queue and progress bar, on the fake webui."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from PIL import Image

from lib_pivotal.core.events import Prepared, Preparing, SampleReady, Saved, StepDone
from lib_pivotal.host.a1111.host import A1111Host
from lib_pivotal.host.webui.progress import WebuiProgress, exclusive
from tests.contract.fake_webui import FakeWebui


@pytest.mark.parametrize("version", [(1, 7), (1, 10, 1)])
def test_a_run_waits_for_the_queue_and_releases_it(monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]) -> None:
    webui = FakeWebui(monkeypatch, version)
    with exclusive("task(one)"):
        webui.calls.append("run")
        webui.modules["shared"].state.interrupted = True
    assert webui.calls == ["add_task_to_queue", "lock", "begin", "start_task", "run", "finish_task", "end", "unlock"]
    assert webui.modules["shared"].state.interrupted is False


def test_a_failed_run_also_releases_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = FakeWebui(monkeypatch)
    with pytest.raises(ZeroDivisionError), exclusive("task(one)"):
        raise ZeroDivisionError
    assert webui.calls[-3:] == ["finish_task", "end", "unlock"]
    with exclusive("task(two)"):
        pass


def test_a_second_run_waits_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = FakeWebui(monkeypatch)
    entered = threading.Event()

    def second() -> None:
        with exclusive("task(two)"):
            webui.calls.append("second")
            entered.set()

    with exclusive("task(one)"):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.2)
        webui.calls.append("first")
    assert entered.wait(2)
    thread.join()
    assert [name for name in webui.calls if name in ("first", "second")] == ["first", "second"]


def test_a_bundle_written_inside_a_run_does_not_wait_for_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = FakeWebui(monkeypatch)
    with exclusive("task(one)"):
        A1111Host("1.10.1").bundle_written(Path("loras/a.safetensors"))
        assert "list_available_networks" in webui.calls
    assert webui.calls.count("lock") == 1


def test_the_bar_shows_progress_from_the_first_step_of_this_session(monkeypatch: pytest.MonkeyPatch) -> None:
    state = FakeWebui(monkeypatch).modules["shared"].state
    sink = WebuiProgress()
    sink.handle(Preparing("latents", 3, 12))
    assert (state.job_no, state.job_count) == (3, 12)
    sink.handle(Prepared(first_step=40, total_steps=100, trainable_count=1))
    began = state.time_start
    sink.handle(StepDone(step=55, loss=0.25))
    # 15 of the 60 steps that this session has to do: a resumed run must not promise an early end.
    assert (state.job_no, state.job_count, state.time_start) == (15, 60, began)
    assert state.textinfo == "Step 55 of 100, loss 0.2500"
    sink.handle(StepDone(step=56, loss=float("nan")))
    assert state.textinfo == "Step 56 of 100"


def test_texts_are_escaped_and_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    state = FakeWebui(monkeypatch).modules["shared"].state
    WebuiProgress().handle(Saved(1, "bundle", Path("a<b>\nc.safetensors")))
    assert state.textinfo == "Saved a&lt;b&gt; c.safetensors"


def test_previews_reach_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = FakeWebui(monkeypatch)
    WebuiProgress().handle(SampleReady(0, 0, "x", Image.new("RGB", (8, 8)), ""))
    assert "assign_current_image" in webui.calls
