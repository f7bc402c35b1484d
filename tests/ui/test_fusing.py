"""Fusing in the bundle tools under a real Gradio: every field reaches the request, and every state is shown."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace

import pytest

from lib_pivotal.app.fusing import fusing_for
from lib_pivotal.core.errors import Interrupted
from lib_pivotal.ui.ids import element_id


def part(name: str) -> str:
    return element_id("fuse", name)


@pytest.fixture
def fuse(session, host, monkeypatch):
    """What fuses, which waits for ``gate``."""
    monkeypatch.setattr("lib_pivotal.app.fusing._clip_skip", lambda _: 1)
    for name in ("x", "y"):
        folder = host.lora_folder() / ("people" if name == "x" else "")
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.safetensors").write_bytes(b"")
    state = SimpleNamespace(gate=threading.Semaphore(0), calls=[])

    def work(paths, model, out, *, progress, stopped, **options):
        state.calls.append((paths, out, options))
        progress("fusing layers", 3, 9)
        while not state.gate.acquire(timeout=0.02):
            if stopped():
                raise Interrupted("stopped")
        out.write_bytes(b"")
        errors = {"all": {"fused": 0.1, "plain_sum": 0.5}}
        report = SimpleNamespace(as_dict=lambda: {"bundle": "x <b>", "names": ["zog"], "errors": errors})
        return SimpleNamespace(path=out, report=[report], problems=["Careful <i>."])

    fusing = fusing_for(session)
    monkeypatch.setattr(fusing, "_fuse", work)
    yield state
    fusing.stop()
    fusing.join(5)


def wait_for(session, **values) -> None:
    deadline = time.monotonic() + 10
    while any(fusing_for(session).status()[name] != value for name, value in values.items()):
        assert time.monotonic() < deadline, fusing_for(session).status()
        time.sleep(0.01)


def test_opening_lists_the_bundles(page):
    changed = page.press(element_id("tab", "bundles"))
    choices = changed[part("others")]["choices"]
    assert [item[1] if isinstance(item, (list, tuple)) else item for item in choices] == ["people/x", "y"]


def test_every_field_reaches_the_work_and_the_result_is_shown(page, session, fuse, host):
    page.values[element_id("bundles", "bundle")] = "people/x"
    page.values.update({part("others"): ["y", "people/x"], part("rank"): " 6 ", part("data"): "images"})
    page.press(part("start"))
    assert json.loads(page.values[part("page")])["is_active"] is True
    wait_for(session, done=3)
    changed = page.press(part("refresh"))
    assert "fusing layers 3 of 9" in page.values[part("view")]
    assert changed[part("start")]["interactive"] is False
    fuse.gate.release()
    fusing_for(session).join(5)
    changed = page.press(part("refresh"))
    view = page.values[part("view")]
    assert str(host.lora_folder() / "x-y.safetensors") in view
    assert "x &lt;b&gt;" in view and "10%" in view and "50%" in view and "Careful &lt;i&gt;." in view
    assert changed[part("start")]["interactive"] is True
    ((paths, _, options),) = fuse.calls
    assert [path.stem for path in paths] == ["x", "y"]
    assert options == {"rank": 6, "data_folder": "images", "overwrite": False}


def test_it_can_be_stopped(page, session, fuse):
    assert "No bundles" in (page.press(part("stop")) and page.values[part("view")])
    page.values[element_id("bundles", "bundle")] = "people/x"
    page.values[part("others")] = ["y"]
    page.press(part("start"))
    wait_for(session, done=3)
    page.press(part("stop"))
    fusing_for(session).join(5)
    page.press(part("refresh"))
    assert "no file was written" in page.values[part("view")]


@pytest.mark.parametrize(
    ("values", "words"),
    [({"others": []}, "at least two"), ({"rank": "x", "others": ["y"]}, "Rank of the fused LoRA")],
)
def test_wrong_values_are_named(page, session, fuse, values, words):
    page.values[element_id("bundles", "bundle")] = "people/x"
    page.values.update({part(name): value for name, value in values.items()})
    page.press(part("start"))
    assert words in page.values[part("view")]
    assert not fuse.calls


def test_events_tell_the_script(page):
    for name in ("start", "stop", "refresh"):
        codes = [item.get("js") for item in page.followers(part(name))]
        assert codes and all("pivotalWork.update('fuse'" in code for code in codes)
