"""run.py on unusual machines: no pip, no ensurepip, a console with few characters."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import run

ROOT = Path(run.__file__).parent
only_posix = pytest.mark.skipif(os.name == "nt", reason="uses a shell script and the C locale")


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@only_posix
def test_characters_outside_the_consoles_encoding_are_no_error(tmp_path):
    """In the C locale Python knows ASCII only, as it knows cp1252 only on Windows."""
    pytest_like = script(tmp_path / "python", "printf '1 passed \\342\\211\\244 \\377\\n'")
    program = f"""
        import sys
        from pathlib import Path
        import run
        suites = run.Suites()
        def both(arguments):
            code = run.call([sys.executable, "-c", "print(chr(0x2264))"])
            suites.run("suite", Path({str(pytest_like)!r}), [])
            return code or suites.finish()
        run.COMMANDS["demo"] = both
        sys.exit(run.main(["demo"]))
    """
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment.pop("PYTHONIOENCODING", None)
    command = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    assert "\u2264" in result.stdout.decode()
    assert b"1 passed, 0 failed" in result.stdout


@only_posix
@pytest.mark.parametrize(("exit_code", "made"), [(1, 1), (0, 0)])
def test_an_environment_without_pip_is_created_again(tmp_path, monkeypatch, exit_code, made):
    calls = []
    script(tmp_path / ".venv-x" / "bin" / "python", f"exit {exit_code}")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run.venv, "create", lambda folder, **options: calls.append((folder, options)))
    for _ in range(2):
        assert run.set_up(".venv-x", [], []) == tmp_path / ".venv-x" / "bin" / "python"
    assert calls == [(tmp_path / ".venv-x", {"with_pip": True, "clear": True})] * made


def test_a_python_without_ensurepip_gets_a_message_about_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="python3-venv"):
        run.set_up(".venv-x", [], [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["e2e", "browser"])
def test_webui_without_a_folder_is_a_clear_line(monkeypatch, capsys, verb):
    monkeypatch.setattr(run, "headless", lambda: pytest.fail("nothing is set up for a mistake"))
    monkeypatch.setenv("PYTHONUTF8", "0")
    assert run.main([verb, "--webui"]) == 2
    assert "--webui DIR" in capsys.readouterr().out
