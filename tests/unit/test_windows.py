"""POSIX-only code is used only after a check of the system, and Windows' rules for paths are applied."""

from __future__ import annotations

import ast
import errno
import os
from pathlib import Path

import pytest

from lib_pivotal.core.config import user_path
from lib_pivotal.core.config.user_path import check_path
from tests.source.parsed import nodes_of, tree_of

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    [*(ROOT / "lib_pivotal").rglob("*.py"), *(ROOT / "scripts").glob("*.py"), ROOT / "install.py", ROOT / "run.py"]
)

MODULES = {
    "crypt", "fcntl", "grp", "nis", "ossaudiodev", "pipes", "posix", "posixpath", "pty", "pwd", "readline", "resource", "spwd",
    "syslog", "termios", "tty",
}  # fmt: skip
"""Modules of the standard library that Windows lacks, or that handle POSIX paths only."""
NAMES = {
    "os": {
        "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "chroot", "confstr", "fchdir", "fchmod", "fchown",
        "fork", "forkpty", "geteuid", "getegid", "getgid", "getgroups", "getloadavg", "getpgid", "getpgrp", "getpriority",
        "getsid", "getuid", "initgroups", "killpg", "lchown", "lockf", "major", "minor", "mkfifo", "mknod", "nice",
        "openpty", "pathconf", "posix_fadvise", "posix_fallocate", "pread", "pwrite", "register_at_fork",
        "sched_getaffinity", "sendfile", "setgid", "setpgid", "setsid", "setuid", "statvfs", "sync", "sysconf", "tcgetpgrp",
        "ttyname", "uname", "wait", "wait3", "wait4", "waitpid",
        # Available, but with another meaning, or only with rights that most users lack.
        "kill", "link", "symlink",
    },
    "signal": {
        "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGTSTP", "SIGUSR1", "SIGUSR2", "alarm",
        "pause", "pthread_kill", "pthread_sigmask", "setitimer", "sigwait",
    },
    "time": {"clock_gettime", "clock_settime", "tzset"},
    "socket": {"AF_UNIX", "socketpair"},
    "pathlib": {"PosixPath"},
    "asyncio": {"add_signal_handler"},
}  # fmt: skip
METHODS = {"lchmod", "symlink_to", "hardlink_to", "add_signal_handler"}
"""Methods of paths and event loops, whatever the variable is called."""
ATTRIBUTES = METHODS.union(*NAMES.values())
PLACES = ("/tmp", "/dev/", "/proc/", "/etc/", "/var/", "/home/", "/usr/")
GUARDS = ("hasattr", "getattr", "os.name", "sys.platform", "platform.system", "is_windows")


def guarded_nodes(tree: ast.AST) -> set[int]:
    """Everything inside a condition that checks the system, or after one that returns on Windows."""
    inside: set[int] = set()

    def asks(node: ast.AST) -> bool:
        return any(guard in ast.unparse(node).lower() for guard in GUARDS)

    for node in nodes_of(tree):
        if isinstance(node, (ast.If, ast.IfExp)) and asks(node.test):
            inside |= {id(item) for item in ast.walk(node)}
        body = getattr(node, "body", None)
        for at, statement in enumerate(body if isinstance(body, list) else []):
            leaves = isinstance(statement, ast.If) and isinstance(statement.body[-1], (ast.Return, ast.Raise))
            if leaves and asks(statement.test):
                inside |= {id(item) for later in body[at:] for item in ast.walk(later)}
    return inside


def function_name(call: ast.Call) -> str:
    """The last part of the name of what is called."""
    return str(getattr(call.func, "attr", getattr(call.func, "id", "")))


def posix_only(tree: ast.Module) -> list[str]:
    """Everything in a program that works on POSIX systems only, with its line."""
    docs = {
        id(node.body[0].value)
        for node in nodes_of(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    suspects = []
    for node in nodes_of(tree):
        names: set[str] = set()
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names if alias.name.split(".")[0] in MODULES}
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")[0]
            names = {module} & MODULES
            names |= {f"{module}.{alias.name}" for alias in node.names if alias.name in NAMES.get(module, ())}
        elif isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
            owner = ast.unparse(node.value)
            if node.attr in NAMES.get(owner, ()) or (node.attr in METHODS and owner not in NAMES):
                names = {f"{owner}.{node.attr}"}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            names = {node.value} if node.value.startswith(PLACES) else set()
        elif isinstance(node, ast.Call) and function_name(node) == "import_module":
            names = {str(item.value) for item in node.args if isinstance(item, ast.Constant)} & MODULES
        suspects += [(node, name) for name in sorted(names)]
    # Most files have none, and looking for checks of the system takes longest.
    guarded = guarded_nodes(tree) if suspects else set()
    return [f"line {node.lineno}: {name}" for node, name in suspects if id(node) not in guarded]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_needs_a_posix_system(path):
    assert posix_only(tree_of(path)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import fcntl",
        "import resource as r",
        "from posixpath import join",
        "def f():\n    import pwd",
        "import os\nos.kill(1, 0)",
        "from os import fork",
        "import signal\nsignal.signal(signal.SIGHUP, f)",
        "signals = (signal.SIGTERM, signal.SIGHUP)",
        "from pathlib import PosixPath",
        "path.symlink_to(other)",
        "system = importlib.import_module('fcntl')",
        "open('/dev/null')",
        "folder = Path('/tmp') / 'x'",
        "if os.name != 'nt':\n    pass\nos.kill(1, 0)",
    ],
)
def test_the_search_finds_posix_only_code(source):
    assert posix_only(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        '"""Of /tmp and os.fork."""',
        "import os\nos.replace(a, b)\nos.getpid()",
        "if os.name == 'posix':\n    import fcntl",
        "if hasattr(signal, 'SIGHUP'):\n    signals.append(signal.SIGHUP)",
        "def f():\n    if os.name == 'nt':\n        return g()\n    os.kill(1, 0)",
        "signals = [getattr(signal, name) for name in ('SIGTERM', 'SIGHUP') if hasattr(signal, name)]",
        "if _IS_WINDOWS:\n    import msvcrt\nelse:\n    system = importlib.import_module('fcntl')",
        "signal.signal(signal.SIGINT, f)",
        "os.open(os.devnull, os.O_RDWR)",
        "path = 'a/b'",
    ],
)
def test_the_search_accepts_portable_code(source):
    assert posix_only(ast.parse(source)) == []


def windows_problem(text):
    found = check_path("data_folder", text, is_windows=True)
    return str(found[0]) if found else ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("C:images", "after the drive"),
        ("C:images/zog", "C:/"),
        ("C:/images/con", "device"),
        (r"D:\Aux\zog", "device"),
        ("C:/images/nul.txt/zog", "device"),
        ("images/com1", "device"),
        ('C:/ima"ges', "does not allow"),
        ("C:/what?", "does not allow"),
        ("C:/a|b", "does not allow"),
        ("C:/a/b:c", "does not allow"),
        ('"C:/images"', "quotes"),
        ("C:\new\table", "twice"),
        (r"C:\images" + r"\x" * 130, "characters"),
    ],
)
def test_paths_that_windows_cannot_use_are_explained(text, words):
    assert words in windows_problem(text)


@pytest.mark.parametrize(
    "text",
    [
        "C:/images/zog",
        r"C:\images\zog",
        "c:\\",
        r"\\server\share\zog",
        "//server/share/zog",
        r"\\?\C:\images\zog",
        "images",
        r"..\images",
        "./images",
        "C:/images/console",
        "C:/images/zog.v1/10_zog",
        "C:/Bilder/Größe 日本",
    ],
)
def test_paths_that_windows_can_use_are_accepted(text):
    assert windows_problem(text) == ""


def test_other_systems_do_not_have_those_rules():
    for text in ("C:images", "images/con", "what?"):
        assert check_path("data_folder", text, is_windows=False) == []


def test_an_error_of_the_system_about_a_path_is_passed_on(monkeypatch):
    def fails(number):
        def stat(_self, **_):
            raise OSError(number, os.strerror(number))

        return stat

    for number, words in ((errno.ENAMETOOLONG, "too long"), (errno.EINVAL, "Invalid argument"), (errno.EIO, "output")):
        monkeypatch.setattr(user_path.Path, "stat", fails(number))
        assert words in check_path("data_folder", "images", is_windows=False)[0].message
    for number in (errno.ENOENT, errno.EACCES, errno.ENOTDIR):
        monkeypatch.setattr(user_path.Path, "stat", fails(number))
        assert check_path("data_folder", "images", is_windows=False) == []
