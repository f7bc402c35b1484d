"""However a run in a webui goes wrong, the session is free for the next one, and a written bundle is a success."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from pathlib import Path

import pytest

from lib_pivotal.app import session as session_module
from lib_pivotal.app.session import Busy, Session
from lib_pivotal.core.errors import ConfigError, HostError, PivotalError
from tests.ui.fake_host import FakeHost, GatedEngine, good_config, write_images


@pytest.fixture
def host(tmp_path) -> FakeHost:
    return FakeHost(tmp_path / "webui")


@pytest.fixture
def config(tmp_path):
    return good_config(write_images(tmp_path / "images"), if_exists="number")


def run(session: Session, config) -> dict:
    session.start(config)
    session.join(5)
    return session.status()


def assert_next_run_works(session: Session, config) -> None:
    session._engine = GatedEngine()
    status = run(session, config)
    assert (status["state"], status["is_active"]) == ("done", False)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EMFILE, errno.EACCES, errno.ENOENT])
def test_a_log_that_cannot_be_opened_fails_the_run(host, config, monkeypatch, error):
    def refuse(*_, **__):
        raise OSError(error, os.strerror(error))

    session = Session(host, GatedEngine())
    with monkeypatch.context() as patch:
        patch.setattr(logging, "open", refuse, raising=False)
        status = run(session, config)
    assert (status["state"], status["is_active"]) == ("failed", False)
    assert os.strerror(error) in status["message"] and status["hint"]
    assert "borrow" not in host.log
    assert_next_run_works(session, config)


def test_a_run_folder_that_vanishes_fails_the_run(host, config, monkeypatch):
    make = session_module.make_run_folder

    def vanishing(*arguments):
        folder = make(*arguments)
        folder.rmdir()
        return folder

    session = Session(host, GatedEngine())
    with monkeypatch.context() as patch:
        patch.setattr(session_module, "make_run_folder", vanishing)
        assert run(session, config)["state"] == "failed"
    assert_next_run_works(session, config)


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError(), UnspeakableError()]
)
def test_whatever_the_engine_raises_ends_the_run(host, config, error):
    session = Session(host, GatedEngine(error=error))
    status = run(session, config)
    assert (status["state"], status["is_active"]) == ("failed", False)
    assert status["message"] and host.log[-2:] == ["give back", "leave queue"]
    assert_next_run_works(session, config)


def test_a_thread_that_cannot_be_started_is_an_error_and_no_run(host, config, monkeypatch):
    def no_threads(_self):
        raise RuntimeError("can't start new thread")

    session = Session(host, GatedEngine())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_threads)
        with pytest.raises(PivotalError, match="can't start new thread"):
            session.start(config)
    assert (session.status()["state"], session.status()["is_active"]) == ("failed", False)
    assert not session.stop()
    assert_next_run_works(session, config)


def failing(host, name: str, moment: str, error: BaseException) -> None:
    """Let one of the host's contexts fail when it is entered or left, after it has done its work."""
    real = getattr(host, name)

    @contextlib.contextmanager
    def context(*arguments):
        if moment == "enter":
            raise error
        with real(*arguments) as value:
            yield value
        raise error

    setattr(host, name, context)


@pytest.mark.parametrize("error", [RuntimeError("the webui is odd"), SystemExit(1)])
@pytest.mark.parametrize("name", ["borrow", "exclusive"])
def test_a_host_that_fails_before_training_fails_the_run(host, config, name, error):
    failing(host, name, "enter", error)
    session = Session(host, GatedEngine())
    status = run(session, config)
    assert (status["state"], status["is_active"], status["bundle_path"]) == ("failed", False, None)


@pytest.mark.parametrize("error", [RuntimeError("the webui is odd"), HostError("odd"), SystemExit(1)])
@pytest.mark.parametrize("name", ["borrow", "exclusive"])
def test_a_host_that_fails_after_training_leaves_a_success_with_a_warning(host, config, name, error):
    failing(host, name, "leave", error)
    session = Session(host, GatedEngine())
    status = run(session, config)
    assert (status["state"], status["is_active"]) == ("done", False)
    assert status["words"] == "<lora:zog-bundle:1> zog" and Path(status["bundle_path"]).exists()
    assert len(status["warnings"]) == 1 and type(error).__name__ in status["warnings"][0]
    assert host.written == [Path(status["bundle_path"])]


@pytest.mark.parametrize("error", [RuntimeError("no such LoRA"), SystemExit(1)])
def test_a_list_of_loras_that_cannot_be_renewed_is_a_warning(host, config, error):
    def broken(_path):
        raise error

    host.bundle_written = broken
    session = Session(host, GatedEngine())
    status = run(session, config)
    assert status["state"] == "done" and len(status["warnings"]) == 1 and "Refresh" in status["warnings"][0]


@pytest.mark.parametrize("what", ["borrow", "exclusive", "bundle_written"])
def test_what_fails_afterwards_does_not_hide_why_the_engine_failed(host, config, what):
    class SavesThenFails(GatedEngine):
        def __call__(self, *arguments) -> None:
            super().__call__(*arguments)
            raise HostError("The model was exchanged.")

    if what == "bundle_written":

        def broken(_path):
            raise RuntimeError("second")

        host.bundle_written = broken
    else:
        failing(host, what, "leave", RuntimeError("second"))
    session = Session(host, SavesThenFails())
    status = run(session, config)
    assert (status["state"], status["message"]) == ("failed", "The model was exchanged.")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_log_on_a_full_disk_is_a_warning(host, config, monkeypatch, capsys):
    monkeypatch.setattr("lib_pivotal.core.train.run_folder._LOG", "/dev/full")
    session = Session(host, GatedEngine())
    status = run(session, config)
    assert status["state"] == "done" and ["No space left" in text for text in status["warnings"]] == [True]
    assert "Logging error" not in capsys.readouterr().err


def test_a_disk_that_hangs_while_a_run_starts_keeps_nobody_waiting(host, config, monkeypatch):
    hangs, goes_on = threading.Event(), threading.Event()
    make = session_module.make_run_folder

    def slow(*arguments):
        hangs.set()
        assert goes_on.wait(5)
        return make(*arguments)

    monkeypatch.setattr(session_module, "make_run_folder", slow)
    session = Session(host, GatedEngine())
    starter = threading.Thread(target=session.start, args=(config,))
    starter.start()
    assert hangs.wait(5)
    answers = []
    asker = threading.Thread(target=lambda: answers.extend([session.stop(), session.status()["state"]]))
    asker.start()
    asker.join(5)
    assert answers == [False, "idle"]
    with pytest.raises(Busy):
        session.start(config)
    goes_on.set()
    starter.join(5)
    session.join(5)
    assert session.status()["state"] == "done"


@pytest.mark.parametrize("where", ["pivotal-tuning", "Lora"])
@pytest.mark.parametrize("kind", ["file", "broken link"])
def test_folders_that_cannot_be_written_are_found_by_the_check(host, config, where, kind):
    path = host.data_root().parent / where
    if path.exists():
        path.rmdir()
    if kind == "file":
        path.write_text("in the way")
    else:
        path.symlink_to("/not/mounted")
    session = Session(host, GatedEngine())
    assert [problem.field for problem in session.check(config) if problem.is_error] == ["output folder"]
    with pytest.raises(ConfigError, match="cannot be written"):
        session.start(config)


def test_files_that_a_killed_webui_has_left_are_removed_by_the_next_run(host, config):
    import subprocess
    import sys

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [host.lora_folder() / f".x.safetensors.{dead.pid}.tmp", host.data_root() / f".last.json.{dead.pid}.tmp"]
    host.data_root().mkdir()
    for path in left:
        path.write_bytes(b"half")
    assert run(Session(host, GatedEngine()), config)["state"] == "done"
    assert not [path for path in left if path.exists()]
