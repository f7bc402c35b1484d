"""install.py is quick and quiet, and does not change the user's webui."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

_LAUNCH = """\
from types import SimpleNamespace
import os, shlex

args = SimpleNamespace(skip_install="--skip-install" in shlex.split(os.environ.get("COMMANDLINE_ARGS", "")))

def _refuse(*arguments, **options):
    raise RuntimeError(f"install.py changed the webui: {arguments}")

run = run_pip = run_git = git_clone = prepare_environment = _refuse
"""

_GUARD = """\
import socket, subprocess, sys

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modules", "gradio", "lib_pivotal", "pip", "diffusers", "transformers"):
            raise ImportError(f"{name} must not be imported by install.py")
        return None

def refuse(*arguments, **options):
    raise RuntimeError("install.py started a process or opened a connection")

sys.meta_path.insert(0, Guard())
socket.socket.connect = subprocess.Popen.__init__ = refuse
import runpy
runpy.run_path(sys.argv[1], run_name="__main__")
heavy = {"torch", "numpy", "PIL", "safetensors"} & set(sys.modules)
assert not heavy, f"imported {heavy}"
"""


@pytest.fixture
def webui(tmp_path):
    """Stands for a webui's folder: its ``launch`` has what the real one has, and rejects every change."""
    (tmp_path / "launch.py").write_text(_LAUNCH)
    (tmp_path / "guard.py").write_text(_GUARD)
    return tmp_path


def install(webui: Path, arguments: str = "", *flags: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(webui), "COMMANDLINE_ARGS": arguments}
    command = [sys.executable, *flags, str(webui / "guard.py"), str(ROOT / "install.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_it_installs_silently(webui):
    result = install(webui)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_missing_package_is_reported_unless_installing_is_skipped(webui):
    # Without site-packages, none of the webui's packages is available.
    assert "The webui lacks torch" in install(webui, "", "-S").stdout
    assert install(webui, "--medvram --skip-install", "-S").stdout == ""


def test_it_also_runs_without_a_webui():
    result = subprocess.run([sys.executable, str(ROOT / "install.py")], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")
