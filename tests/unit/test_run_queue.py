"""The queue: one run after the other, whatever happens to any of them; nothing is lost by a restart."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from lib_pivotal.app.session import Session
from lib_pivotal.core.errors import ConfigError, HostError
from tests.ui.fake_host import FakeHost, GatedEngine, good_config, write_images


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path / "webui")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images")


def states(session: Session) -> list[tuple[str, str]]:
    return [(item.output_name, item.state) for item in session.queue.items()]


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def wait_for_the_end(session: Session) -> None:
    wait_until(lambda: not any(item.state in ("waiting", "running") for item in session.queue.items()))


def add(session: Session, images: Path, *names: str, **changes) -> None:
    for name in names:
        session.queue.add(good_config(images, output_name=name, **changes))


def test_runs_start_one_after_the_other_and_a_failure_does_not_stop_the_rest(host, images):
    class FailsInTheMiddle(GatedEngine):
        def __call__(self, config, *arguments) -> None:
            if config.output_name == "two":
                raise HostError("The model was exchanged.")
            super().__call__(config, *arguments)

    engine = FailsInTheMiddle()
    session = Session(host, engine)
    add(session, images, "one", "two", "three")
    assert session.status()["state"] == "idle", "adding starts nothing"
    assert session.queue.start()
    wait_for_the_end(session)
    assert states(session) == [("one", "done"), ("two", "failed"), ("three", "done")]
    assert session.queue.items()[1].message == "The model was exchanged."
    assert [config.output_name for config in engine.configs] == ["one", "three"]
    assert host.log.count("enter queue") == host.log.count("leave queue") == 3, "others get their turn between runs"
    assert len({item.run_folder for item in session.queue.items()}) == 3


def test_a_run_that_cannot_start_does_not_stop_the_rest(host, images):
    session = Session(host, GatedEngine())
    gone = write_images(images.parent / "gone")
    add(session, gone, "one")
    add(session, images, "two")
    for path in gone.iterdir():
        path.unlink()
    session.queue.start()
    wait_for_the_end(session)
    assert states(session) == [("one", "failed"), ("two", "done")]
    assert "gone" in session.queue.items()[0].message


def test_a_run_added_during_another_one_follows_it_by_itself(host, images):
    engine = GatedEngine(gated=True)
    session = Session(host, engine)
    session.start(good_config(images, output_name="first", steps=1))
    add(session, images, "second", steps=1)
    engine.allow(2)
    wait_for_the_end(session)
    assert [config.output_name for config in engine.configs] == ["first", "second"]


def test_stop_ends_the_current_run_only_and_stop_all_the_queue(host, images):
    engine = GatedEngine(gated=True)
    session = Session(host, engine)
    add(session, images, "one", "two", "three")
    session.queue.start()
    wait_until(lambda: len(engine.configs) == 1)
    session.stop()
    wait_until(lambda: len(engine.configs) == 2)
    assert session.queue.stop_all()
    wait_until(lambda: not session.is_active)
    wait_until(lambda: states(session) == [("one", "stopped"), ("two", "stopped"), ("three", "waiting")])
    assert not session.queue.as_dict()["is_going"]
    assert not session.queue.stop_all()
    session.queue.start()
    wait_until(lambda: len(engine.configs) == 3)
    session.queue.stop_all(discard=True)
    wait_for_the_end(session)


def test_a_restart_keeps_the_list_and_starts_nothing(host, images):
    engine = GatedEngine(gated=True)
    session = Session(host, engine)
    add(session, images, "one", "two")
    session.queue.start()
    wait_until(lambda: len(engine.configs) == 1)
    by_hand = GatedEngine()
    later = Session(FakeHost(host.data_root().parent), by_hand)
    assert states(later) == [("one", "interrupted"), ("two", "waiting")]
    assert later.queue.items()[1].config["data_folder"] == str(images)
    assert not later.queue.as_dict()["is_going"]
    # A run that is started by hand does not start the queue either.
    later.start(good_config(images, output_name="by hand"))
    later.join(5)
    assert [config.output_name for config in by_hand.configs] == ["by hand"]
    assert states(later)[1] == ("two", "waiting")
    session.queue.stop_all(discard=True)
    session.join(5)


@pytest.mark.parametrize("contents", ["{", "[]", '{"items": [3]}', '{"items": [{"id": 1, "config": {}}]}', "\x00"])
def test_a_damaged_list_is_kept_aside_and_reported(host, images, contents):
    host.data_root().mkdir()
    (host.data_root() / "queue.json").write_text(contents)
    session = Session(host, GatedEngine())
    assert session.queue.as_dict()["items"] == []
    assert "queue.json.damaged" in session.queue.as_dict()["problem"]
    add(session, images, "one")
    assert (host.data_root() / "queue.json.damaged").read_text() == contents
    assert json.loads((host.data_root() / "queue.json").read_text())["items"][0]["config"]["output_name"] == "one"


def test_runs_keep_the_settings_they_were_added_with_and_warn_about_changed_captions(host, images):
    engine = GatedEngine()
    session = Session(host, engine)
    add(session, images, "one", "two", steps=7)
    (images / "0.txt").write_text("zog, changed")
    session.queue.start()
    wait_until(lambda: states(session)[0][1] == "done")
    wait_for_the_end(session)
    assert {config.steps for config in engine.configs} == {7}
    assert "changed since" in session.status()["warnings"][0]
    add(session, images, "three")
    session.queue.start()
    wait_for_the_end(session)
    assert session.status()["warnings"] == []


def test_two_runs_of_the_queue_never_write_the_same_file(host, images):
    session = Session(host, GatedEngine())
    add(session, images, "zog")
    for if_exists in ("refuse", "overwrite"):
        with pytest.raises(ConfigError, match="Another run of the queue writes Zog"):
            add(session, images, "Zog", if_exists=if_exists)
    add(session, images, "zog", if_exists="number")
    with pytest.raises(ConfigError, match="rank"):
        add(session, images, "new", rank=-1)
    assert states(session) == [("zog", "waiting")] * 2
    # Also next to a run that was not started from the queue.
    engine = GatedEngine(gated=True)
    session = Session(FakeHost(images.parent / "other"), engine)
    session.start(good_config(images, output_name="zog"))
    with pytest.raises(ConfigError, match="Another run"):
        add(session, images, "zog")
    session.stop(discard=True)
    session.join(5)


def test_runs_can_be_moved_and_removed(host, images):
    session = Session(host, GatedEngine())
    add(session, images, "a", "b", "c")
    first, _, third = session.queue.items()
    session.queue.move(third.id, -1)
    assert [name for name, _ in states(session)] == ["a", "c", "b"]
    session.queue.move(first.id, 100)
    assert [name for name, _ in states(session)] == ["c", "b", "a"]
    session.queue.remove(third.id)
    assert [name for name, _ in states(session)] == ["b", "a"]
    for call in (lambda: session.queue.remove(third.id), lambda: session.queue.move("none", 1)):
        with pytest.raises(ConfigError, match="no such run"):
            call()


def test_a_running_run_cannot_be_moved_or_removed(host, images):
    engine = GatedEngine(gated=True)
    session = Session(host, engine)
    add(session, images, "one", "two")
    session.queue.start()
    wait_until(lambda: len(engine.configs) == 1)
    running = session.queue.items()[0]
    with pytest.raises(ConfigError, match="in progress"):
        session.queue.remove(running.id)
    with pytest.raises(ConfigError, match="not waiting"):
        session.queue.move(running.id, 1)
    session.queue.stop_all(discard=True)
    session.join(5)
    wait_until(lambda: states(session)[0][1] == "discarded")
    session.queue.remove(running.id)
    assert states(session) == [("two", "waiting")]


def test_a_list_that_cannot_be_saved_still_works_and_says_so(host, images):
    host.data_root().write_text("a file is in the way")
    session = Session(host, GatedEngine())
    with pytest.raises(ConfigError):
        add(session, images, "one")
    host.data_root().unlink()
    add(session, images, "one")
    path = host.data_root() / "queue.json"
    path.unlink()
    path.mkdir()
    (path / "x").write_text("")
    add(session, images, "two")
    assert "cannot be saved" in session.queue.as_dict()["problem"]
    session.queue.start()
    wait_for_the_end(session)
    assert states(session) == [("one", "done"), ("two", "done")]


def test_many_starts_at_once_start_every_run_once(host, images):
    engine = GatedEngine()
    session = Session(host, engine)
    add(session, images, *(f"run{number}" for number in range(5)))
    threads = [threading.Thread(target=session.queue.start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for_the_end(session)
    assert [config.output_name for config in engine.configs] == [f"run{number}" for number in range(5)]
    assert {state for _, state in states(session)} == {"done"}


def slow_check(session: Session, monkeypatch) -> tuple[threading.Event, threading.Event]:
    """Let checks wait; returns what is set once one has begun, and what the test sets to let it go on."""
    check, is_checking, may_go_on = session.checked, threading.Event(), threading.Event()

    def checked(*arguments, **options):
        is_checking.set()
        assert may_go_on.wait(20)
        return check(*arguments, **options)

    monkeypatch.setattr(session, "checked", checked)
    return is_checking, may_go_on


def test_stop_all_also_stops_a_run_that_is_still_being_checked(host, images, monkeypatch):
    """Reading the images before a run can take minutes."""
    engine = GatedEngine(gated=True)
    session = Session(host, engine)
    add(session, images, "one", "two")
    is_checking, may_go_on = slow_check(session, monkeypatch)
    starting = threading.Thread(target=session.queue.start)
    starting.start()
    assert is_checking.wait(20)
    assert session.queue.is_on
    assert session.queue.stop_all(discard=True)
    may_go_on.set()
    starting.join(20)
    engine.allow(5)
    wait_until(lambda: not session.is_active and states(session)[0][1] != "running")
    assert states(session) == [("one", "discarded"), ("two", "waiting")]
    assert not session.queue.is_on
    # It does not concern later ones.
    engine.allow(100)
    session.queue.start()
    wait_for_the_end(session)
    assert states(session)[1] == ("two", "done")


def test_start_after_stop_all_counts_while_a_run_is_still_being_checked(host, images, monkeypatch):
    engine = GatedEngine(gated=True)
    session = Session(host, engine)
    add(session, images, "one")
    is_checking, may_go_on = slow_check(session, monkeypatch)
    threads = [threading.Thread(target=session.queue.start) for _ in range(2)]
    threads[0].start()
    assert is_checking.wait(20)
    session.queue.stop_all()
    threads[1].start()
    threads[1].join(20)
    may_go_on.set()
    threads[0].join(20)
    engine.allow(100)
    wait_for_the_end(session)
    assert states(session) == [("one", "done")]
