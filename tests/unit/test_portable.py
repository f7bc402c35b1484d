"""Most artists use Windows: nothing that only POSIX has is imported or called on any path."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    [*(ROOT / "lib_pivotal").rglob("*.py"), *(ROOT / "scripts").glob("*.py"), ROOT / "install.py", ROOT / "run.py"]
)
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
CALLS = {
    "os": {"chown", "fork", "getegid", "geteuid", "getgid", "getpgid", "getuid", "kill", "killpg", "lchown", "mkfifo"}
    | {"mknod", "setsid", "statvfs", "uname", "wait", "waitpid"},
    "signal": {
        "SIGALRM",
        "SIGCHLD",
        "SIGHUP",
        "SIGKILL",
        "SIGQUIT",
        "SIGUSR1",
        "SIGUSR2",
        "alarm",
        "pause",
        "setitimer",
    },
}
ALLOWED = {("lib_pivotal/core/process.py", "os.kill")}
"""Calls that another branch of the same file replaces on Windows."""


def found_in(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] in MODULES}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {module} if module.split(".")[0] in MODULES else set()
            found |= {f"{module}.{alias.name}" for alias in node.names if alias.name in CALLS.get(module, ())}
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            found |= {f"{owner}.{node.attr}"} if node.attr in CALLS.get(owner, ()) else set()
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_for_posix_alone(path):
    name = path.relative_to(ROOT).as_posix()
    found = {(name, item) for item in found_in(ast.parse(path.read_text(encoding="utf-8")))}
    assert found <= ALLOWED


def test_what_is_forbidden_is_found():
    text = "import fcntl\nfrom os import fork\nimport os, signal\nos.kill(1, signal.SIGHUP)\nimport pwd as names"
    assert found_in(ast.parse(text)) == {"fcntl", "os.fork", "os.kill", "signal.SIGHUP", "pwd"}
