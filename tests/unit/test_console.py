"""Output to any console, pipe or file: never a traceback, and an exit code that says what happened."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import install
import run
from lib_pivotal.cli.console import GuardedStream, guarded
from lib_pivotal.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
only_posix = pytest.mark.skipif(os.name == "nt", reason="uses a shell's redirections")


def encoded_stdout(monkeypatch, encoding):
    """Standard output in an encoding; returns where its bytes go."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, newline="\n"))
    return raw


@pytest.mark.parametrize("encoding", ["cp437", "ascii", "cp1252", "latin-1", "utf-8", "utf-16"])
def test_the_table_of_settings_is_printed_in_every_encoding(monkeypatch, encoding):
    raw = encoded_stdout(monkeypatch, encoding)
    assert main(["options"]) == 0
    text = raw.getvalue().decode(encoding)
    assert "`resolution`" in text
    # A range is written with a sign that many code pages lack.
    assert ("64 … 2048" if encoding in ("cp1252", "utf-8", "utf-16") else "64 ... 2048") in text


@pytest.mark.parametrize("encoding", ["cp437", "ascii", "utf-8"])
def test_paths_and_names_of_any_letters_are_printed(monkeypatch, tmp_path, encoding):
    raw = encoded_stdout(monkeypatch, encoding)
    values = {"data_folder": str(tmp_path / "日本 café"), "output_name": "größe →", "concepts": [{"name": "été …"}]}
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    assert main(["train", str(tmp_path / "config.json"), "--out", str(tmp_path), "--check"]) == 2
    text = raw.getvalue().decode(encoding)
    assert "Not ready to train." in text
    assert ("日本" in text) == (encoding == "utf-8")
    assert ("\\u65e5\\u672c" in text) == (encoding != "utf-8")


@pytest.mark.parametrize("encoding", ["cp437", "ascii", "utf-8"])
def test_errors_and_logs_are_printed_as_well(monkeypatch, tmp_path, encoding):
    raw = io.BytesIO()
    # Python's own standard error never fails; one that somebody has replaced may.
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding=encoding, newline="\n"))
    monkeypatch.setattr(logging, "raiseExceptions", True)
    logger = logging.getLogger("pivotal.test_console")
    monkeypatch.setattr(logger, "propagate", False)
    assert main(["inspect", str(tmp_path / "größe → \udce9.safetensors")]) == 2
    with guarded():
        logger.warning("日本 \udce9")
    text = raw.getvalue().decode(encoding)
    assert "Error: " in text
    assert "gr" in text
    assert "Logging error" not in text
    assert "Traceback" not in text


def test_a_file_that_the_system_refuses_is_an_error_and_no_traceback(tmp_path, capsys):
    source = tmp_path / "a.safetensors"
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(2, 2)}, source)
    assert main(["bundle", "rename", str(source), "a=b", "--out", str(tmp_path / ("n" * 300 + ".safetensors"))]) != 0
    said = capsys.readouterr().err
    assert "Error: " in said
    assert "Traceback" not in said


class Broken(io.StringIO):
    """A stream that fails after some writes."""

    encoding = "utf-8"

    def __init__(self, error, writes=0):
        super().__init__()
        self.error, self.writes = error, writes

    def write(self, text):
        self.writes -= 1
        if self.writes < 0:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(28, "No space left on device"), 1),
        (ValueError("I/O operation on closed file"), 1),
        (BrokenPipeError(32, "Broken pipe"), 0),
    ],
)
def test_output_that_fails_is_told_once_and_ends_nothing(monkeypatch, capsys, error, code):
    stream = Broken(error)
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["options"]) == code
    assert sys.stdout is stream
    said = capsys.readouterr().err
    assert said.count("Error") == code
    if code:
        assert "cannot be written" in said


def test_a_program_without_any_console_runs(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["options"]) == 1
    with guarded():
        sys.stderr.write("nobody reads this\n")
        sys.stdout.flush()
        assert not sys.stdout.isatty()
    assert main(["inspect", "no such file"]) == 2


def test_a_guarded_stream_goes_on_where_it_can():
    inner = Broken(OSError(5, "Input/output error"), writes=2)
    stream = GuardedStream(inner)
    stream.writelines(["a\n", "b\n", "c\n", "d\n"])
    assert inner.getvalue() == "a\nb\n"
    assert stream.failure is inner.error
    assert not stream.is_broken_pipe
    # In a signal's handler, while the same stream is being written to.
    inner = Broken(RuntimeError("reentrant call"), writes=0)
    stream = GuardedStream(inner)
    stream.write("a\n")
    assert stream.failure is None


@only_posix
@pytest.mark.parametrize(
    ("redirection", "code"),
    [(">&-", 1), (">/dev/full", 1), ("| true", 0), (">&- 2>&-", 1), (">/dev/full 2>/dev/full", 1)],
)
def test_redirections_of_a_shell(redirection, code):
    """With the interpreter's own streams, and its own end."""
    if "/dev/full" in redirection and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    # bash has the exit code of the first program of a pipe.
    command = f"'{sys.executable}' -m lib_pivotal options {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert ("cannot be written" in done.stderr) == (code == 1 and "2>" not in redirection)


@only_posix
def test_files_do_not_get_the_number_of_a_closed_output(tmp_path):
    program = (
        "import os; from lib_pivotal.cli.console import guarded\n"
        "with guarded():\n"
        f"    file = open({str(tmp_path / 'file')!r}, 'w'); assert file.fileno() > 2, file.fileno()\n"
        "    os.write(1, b'from a library'); os.system('echo from a child; exit 3') >> 8 == 3 or exit(4)\n"
    )
    command = f"'{sys.executable}' -c \"$PROGRAM\" <&- >&-"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env={**os.environ, "PROGRAM": program}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("encoding", ["cp437", "ascii"])
def test_the_command_for_newcomers_prints_as_well(monkeypatch, encoding):
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setitem(run.VERBS, "demo", lambda _: run.say("größe … ≤ 日本") or run.say_line("…\n") or 0)
    raw = encoded_stdout(monkeypatch, encoding)
    assert run.main(["demo"]) == 0
    assert raw.getvalue().decode(encoding).endswith("...\n")
    monkeypatch.setattr(sys, "stdout", None)
    assert run.main(["help"]) == 0
    monkeypatch.setattr(sys, "stdout", Broken(BrokenPipeError()))
    assert run.main(["demo"]) == 0


def test_what_the_installer_says_is_plain(monkeypatch):
    monkeypatch.setattr(install, "_OLDEST_PYTHON", (99, 0))
    monkeypatch.setattr(install, "_NEEDED", {"no_such_module": "nothing"})
    problems = install.find_problems()
    assert len(problems) == 2
    assert all(line.isascii() for line in problems)
