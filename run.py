"""Runs the demo, the tests, the checks and the benchmarks; needs only Python 3.11 or newer.

    python run.py demo            train on the embedded small model and show images and numbers
    python run.py test [ARGS]     the tests, also in a real webui if one is found; ARGS go to pytest
    python run.py all [ARGS]      the same with the long ones
    python run.py unit [ARGS]     the tests that train nothing, on several processor cores
    python run.py check           linters, spelling, types, direction of imports
    python run.py e2e [--webui DIR] [ARGS]      all tests in a real webui, also the long ones
    python run.py browser [--webui DIR] [ARGS]  all tests of the page, in a real browser and a real webui
    python run.py bench NAME      a benchmark from benchmarks/
    python run.py gpu [SECTION …] what only a GPU can show: tests, steps at full size, precisions, the demo

The first use of a command sets up the environments it needs from pinned packages: .venv and, for the tests of the tab,
.venv-gradio3 and .venv-gradio4. Later calls start in seconds.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lib_pivotal.cli.console import guarded

ROOT = Path(__file__).resolve().parent
CONSTRAINTS = ROOT / ".ci" / "constraints.txt"
HEADLESS = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow", "pyyaml", "tqdm",
            "pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "playwright", "axe-playwright-python", "ruff",
            "mypy", "types-tqdm", "codespell",
            "peft", "lion-pytorch", "prodigy-plus-schedule-free", "prodigyopt", "schedulefree")  # fmt: skip
_NO_TESTS = 5
"""pytest's exit code if no tests were collected."""
WITHOUT_DEPENDENCIES = ("open_clip_torch",)
"""Only a vocabulary file of it is used; its dependencies (torchvision) would add gigabytes."""


def say(text: str) -> None:
    """Print a line and flush."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def say_raw(text: str) -> None:
    """Print text that already ends with a line break, and flush."""
    sys.stdout.write(text)
    sys.stdout.flush()


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def has_pip(python: Path) -> bool:
    """Whether an interpreter exists and has pip."""
    return (
        python.exists() and not subprocess.run([python, "-m", "pip", "-V"], capture_output=True, check=False).returncode
    )


def make_environment(folder: Path) -> None:
    """Create a virtual environment, replacing an incomplete one."""
    hint = "On Debian and Ubuntu: apt install python3-venv."
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit(f"This Python cannot create an environment with pip: its module ensurepip is missing. {hint}")
    try:
        venv.create(folder, with_pip=True, clear=True)
    except subprocess.CalledProcessError as error:
        sys.exit(f"pip could not be installed in {folder.name}: {error}. {hint}")


def set_up(name: str, steps: list[list[str]], sources: list[Path]) -> Path:
    """Set up a virtual environment, unless one from the same sources exists already.

    Args:
        name: folder in the project.
        steps: arguments of the pip calls.
        sources: files that determine its contents.

    Returns:
        The environment's interpreter.
    """
    folder = ROOT / name
    stamp = folder / "pivotal-stamp"
    digest = hashlib.sha256(repr(steps).encode() + b"".join(path.read_bytes() for path in sources)).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python_of(folder)
    say(f"Setting up {name} (about a minute) …")
    if not has_pip(python_of(folder)):
        make_environment(folder)
    for arguments in steps:
        command = [str(python_of(folder)), "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments]
        if subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, check=False).returncode:
            result = subprocess.run(command, cwd=ROOT, check=False)
            if result.returncode:
                sys.exit(f"pip failed while setting up {name}; see its output above.")
    stamp.write_text(digest)
    return python_of(folder)


def headless() -> Path:
    """Interpreter of the environment for everything that needs no webui."""
    if sys.version_info < (3, 11):
        sys.exit("The pinned packages need Python 3.11 or newer; run run.py with such a version.")
    pins = ["-c", str(CONSTRAINTS)]
    return set_up(".venv", [[*HEADLESS, *pins], ["--no-deps", *WITHOUT_DEPENDENCIES, *pins]], [CONSTRAINTS])


def tab(major: int) -> Path:
    """Interpreter of the environment for testing the tab under one version of Gradio."""
    requirements = ROOT / "tests" / "ui" / f"requirements-gradio{major}.txt"
    return set_up(f".venv-gradio{major}", [["-r", str(requirements)]], [requirements])


def call(command: list[str], **environment: str) -> int:
    """Run a command in the project's folder and return its exit code."""
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False).returncode


def find_webui() -> Path | None:
    """``$PIVOTAL_WEBUI``, or else ``~/stable-diffusion-webui``; None if there is no webui."""
    chosen = os.environ.get("PIVOTAL_WEBUI")
    folder = Path(chosen) if chosen else Path.home() / "stable-diffusion-webui"
    return folder if (folder / "launch.py").exists() else None


Suite = tuple[str, Path, list[str]]
"""Title, interpreter and arguments of pytest."""


class Suites:
    """Runs test suites and adds up their results."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.left_out: list[str] = []

    def run(self, title: str, python: Path, arguments: list[str]) -> None:
        """Run pytest and show its output as it appears."""
        say(f"\n== {title}")
        self._run(title, python, arguments, say_raw)

    def run_in_parallel(self, suites: list[Suite], *, workers: int = 2) -> None:
        """Run pytest for each suite, a few at a time in the order given; each is shown at its end.

        Args:
            suites: title, interpreter and arguments of each; the longest ones first.
            workers: how many run at a time.
        """

        def work(suite: Suite) -> None:
            title, python, arguments = suite
            lines: list[str] = []
            say(f"Started: {title}")
            self._run(title, python, arguments, lines.append)
            say_raw(f"\n== {title}\n{''.join(lines)}")

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, suites))

    def _run(self, title: str, python: Path, arguments: list[str], show: Callable[[str], object]) -> None:
        started = time.monotonic()
        command = [str(python), "-m", "pytest", "-q", *arguments]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
        )
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            show(line)
            if re.search(r"\d+ (passed|failed|skipped|error)", line):
                last = line
        code = process.wait()
        found = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
        found["failed"] = found.get("failed", 0) + found.pop("error", 0)
        # A suite that crashed before it could count anything has failed, too.
        if code not in (0, _NO_TESTS) and not found["failed"]:
            found["failed"] = 1
        for word, number in found.items():
            self.counts[word] += number
        if code in (0, _NO_TESTS) and not found.get("passed"):
            verdict = "NOT RUN (no test was selected)" if code else "NOT RUN (all skipped, see above)"
            self.left_out.append(title)
        else:
            verdict = "FAILED" if code else "passed"
        self.lines.append(f"{title}: {verdict} in {time.monotonic() - started:.0f} s")

    def finish(self) -> int:
        """Print a summary and return the exit code."""
        say("\n" + "\n".join(self.lines))
        counts = self.counts
        say(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
        for title in self.left_out:
            say(f"NOT RUN: {title}.")
        return 1 if counts["failed"] else 0


def run_tests(arguments: list[str]) -> int:
    """Run the tests that are possible on this machine, without the long ones."""
    return run_all(["-m", "not long", *arguments])


def run_all(arguments: list[str]) -> int:
    """Run all tests that are possible on this machine."""
    python = headless()
    tabs = [(f"tab under Gradio {major}", tab(major), ["tests/ui", *arguments]) for major in (4, 3)]
    webui = [
        ("real webui", python, ["tests/e2e", *arguments]),
        ("page in a real browser", python, ["tests/browser", *arguments]),
    ]
    suites = Suites()
    if find_webui() is None:
        webui = []
        suites.left_out.append("the suites in a real webui: none was found; set PIVOTAL_WEBUI to the folder of one")
    engine = [
        ("whole runs, headless host", python, ["tests/runs", "tests/headless", *arguments]),
        ("engine, contract", python, ["tests/source", "tests/unit", "tests/contract", "tests/gpu", *arguments]),
    ]
    suites.run_in_parallel([*webui, *engine, *tabs])
    return suites.finish()


def run_unit(arguments: list[str]) -> int:
    """Run the tests that need neither a model nor a webui, and train nothing."""
    suites = Suites()
    suites.run("engine", headless(), ["tests/unit", "-n", "logical", "--maxprocesses", "4", *arguments])
    return suites.finish()


def run_suite(title: str, folder: str, arguments: list[str]) -> int:
    """Run one suite that needs a real webui."""
    if "--webui" in arguments:
        at = arguments.index("--webui")
        if not arguments[at + 1 :]:
            say("--webui needs the folder of a webui: --webui DIR.")
            return 2
        os.environ["PIVOTAL_WEBUI"] = arguments[at + 1]
        arguments = arguments[:at] + arguments[at + 2 :]
    if find_webui() is None:
        say("No webui was found: set PIVOTAL_WEBUI to the folder of one, or use --webui DIR.")
        return 1
    python = headless()
    suites = Suites()
    suites.run(title, python, [folder, "-v", *arguments])
    return suites.finish()


def run_checks() -> int:
    """Check linters, spelling, types and the direction of imports; the last line lists what failed."""
    python = str(headless())
    steps = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "spelling": ["codespell_lib"],
        "mypy": ["mypy", "--strict", "lib_pivotal/core"],
        # Nothing else looks at what runs only where there is a GPU.
        "mypy, GPU": ["mypy", "--explicit-package-bases", "--check-untyped-defs", "benchmarks", "tests/gpu"],
        "imports, docstrings, words, documents": ["pytest", "-q", "tests/source"],
    }
    failed = [name for name, step in steps.items() if call([python, "-m", *step])]
    say(f"FAILED: {', '.join(failed)}" if failed else "All checks passed.")
    return 1 if failed else 0


def run_bench(arguments: list[str]) -> int:
    """Run a benchmark; its arguments follow its name."""
    programs = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "benchmarks").glob("*/__main__.py")]
    names = sorted({path.parent.name if path.stem == "__main__" else path.stem for path in programs} - {"gpu"})
    if not arguments or arguments[0] not in names:
        say(f"Choose a benchmark: {', '.join(names)}")
        return 1
    return call([str(headless()), "-m", f"benchmarks.{arguments[0]}", *arguments[1:]])


def run_gpu(arguments: list[str]) -> int:
    """Run what only a GPU can show, in this Python if it has torch: its build is the one that fits the GPU."""
    has_torch = importlib.util.find_spec("torch") is not None
    return call([sys.executable if has_torch else str(headless()), "-m", "benchmarks.gpu", *arguments])


def run_demo(arguments: list[str]) -> int:
    """Run the demo."""
    code = call([str(headless()), "-m", "lib_pivotal.demo", *arguments])
    say("Demo finished." if code == 0 else "The demo FAILED; see the output above.")
    return code


COMMANDS = {
    "demo": run_demo,
    "test": run_tests,
    "all": run_all,
    "unit": run_unit,
    "check": lambda _: run_checks(),
    "e2e": lambda arguments: run_suite("real webui", "tests/e2e", arguments),
    "browser": lambda arguments: run_suite("page in a real browser", "tests/browser", arguments),
    "bench": run_bench,
    "gpu": run_gpu,
}


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code."""
    # A Windows console can show few characters: child processes write UTF-8, and our own output never fails.
    os.environ["PYTHONUTF8"] = "1"
    name = arguments[0] if arguments else "help"
    with guarded():
        if name in COMMANDS:
            return COMMANDS[name](arguments[1:])
        say(__doc__ or "")
        return 0 if name in ("-h", "--help", "help") else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
