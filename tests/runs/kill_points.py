"""Kills a small run at every rename and at random moments, resumes it, and compares it with an undisturbed one.

    python -m tests.runs.kill_points                        before and after every rename, then at random moments, until
                                                            50 runs and more have been resumed
    python -m tests.runs.kill_points after:toy.safetensors  only at the renames to files of these names

Prints a line for each kill and the counts; the exit code is the number of failures. POSIX only, as it forks: torch is
loaded once for all runs.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.core.ports import Sample
from lib_pivotal.core.train.recorder import read_losses
from lib_pivotal.core.train.run import Folders, train
from lib_pivotal.core.train.run_folder import guarded
from lib_pivotal.core.train.state import load_newest
from tests.unit.toy import ToyModel, toy_config, write_images

LEAST_RANDOM, LEAST_RESUMED = 25, 50
STEPS, SAVE_EVERY = 12, 4


class Painter:
    """Makes preview images of one color."""

    def make(self, request, embeddings):
        return Sample(Image.new("RGB", (8, 8), (1, 2, 3)), "info")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def folders_of(root: Path) -> Folders:
    return Folders(root / "runs" / "toy-1", root, root / "cache")


def work(root: Path, data: Path, *, resumes: bool = False) -> None:
    """One attempt at the run, with the lock, log and cleanup of a real run."""
    where = folders_of(root)
    where.run.mkdir(parents=True, exist_ok=True)
    config: TrainConfig = toy_config(
        data, steps=STEPS, save_every=SAVE_EVERY, sample_every=SAVE_EVERY, sample_prompts="zog_x", cache_to_disk=True
    )
    with guarded(where, lambda _text: None, on_console=False):
        train(config, ToyModel(), Painter(), [], Control(), where, resume_from=where.run if resumes else None)


def in_child(task: Callable[[], None], after: float | None = None) -> int:
    """Run a task in a forked process; its exit code, negative for a signal.

    Args:
        task: what the process does.
        after: seconds after which it is killed.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            task()
            code = 0
        finally:
            os._exit(code)
    if after is not None:
        time.sleep(after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def dying(root: Path, data: Path, moment: str, at: int, names: list[str]) -> None:
    """An attempt that kills itself before or after its rename number ``at``; records the new names until then."""
    replace = os.replace

    def counted(source, target):
        names.append(Path(target).name)
        if len(names) == at and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if len(names) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = counted
    work(root, data)


def straight_run(root: Path, data: Path) -> list[str]:
    """A run that is not killed; returns the names to which it renamed files, in order."""
    record = root.parent / "renames"

    def task() -> None:
        names: list[str] = []
        dying(root, data, "", 0, names)
        record.write_text("\n".join(names))

    if in_child(task):
        sys.exit("The run fails without being killed.")
    return record.read_text().splitlines()


def left_behind(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if ".tmp" in path.name or path.name == ".lock"
    )


def difference(root: Path, straight: Path) -> str:
    """How a run that was killed and resumed differs from one that was not; empty when it does not."""
    names = [sorted(path.name for path in folder.iterdir() if path.is_file()) for folder in (root, straight)]
    if names[0] != names[1]:
        return f"other names: {names[0]}"
    for name in names[0]:
        if name.endswith(".safetensors") and not is_same_bundle(root / name, straight / name):
            return f"other values in {name}"
    runs = [folders_of(folder).run for folder in (root, straight)]
    one, two = (load_newest(run / "states") for run in runs)
    if one.step != two.step or not all(torch.equal(one.tensors[key], two.tensors[key]) for key in two.tensors):
        return "another state"
    files = [sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) for run in runs]
    if files[0] != files[1] or read_losses(runs[0]) != read_losses(runs[1]):
        return f"another run folder: {files[0]}"
    return ""


def is_same_bundle(path: Path, other: Path) -> bool:
    bundles = [read_bundle(path), read_bundle(other)]
    one, two = ({**bundle.lora, "embedding": bundle.embeddings["zog_x"]["clip_l"]} for bundle in bundles)
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def try_one(root: Path, straight: Path, data: Path, title: str, kill: Callable[[], int]) -> tuple[bool, bool, str]:
    """Kill, start again, compare.

    Returns:
        Whether the run was killed in time, whether there was a state to resume from, and what is wrong (empty: nothing).
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    code = kill()
    found = len(left_behind(root))
    resumes = any((folders_of(root).run / "states").glob("state-*.safetensors"))
    # Without a state a new run begins; bundles of the killed one do not belong to it.
    again = in_child(lambda: work(root, data, resumes=resumes))
    if code not in (0, -signal.SIGKILL) or again:
        wrong = f"it ended with {code}, then with {again}"
    elif left_behind(root):
        wrong = f"left behind: {left_behind(root)}"
    elif resumes:
        wrong = difference(root, straight)
    else:
        wrong = "" if is_same_bundle(root / "toy.safetensors", straight / "toy.safetensors") else "other values"
    how = "not in time" if code == 0 else "resumed" if resumes else "no state yet"
    say(f"{title}: {how}, {found} files to clean up; {wrong or 'the same'}")
    return code != 0, resumes, wrong


def main(arguments: list[str]) -> int:
    torch.set_num_threads(1)
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        data, straight, root = top / "data", top / "straight", top / "killed"
        write_images(data)
        straight.mkdir()
        # Everything that the first run loads is loaded here, once for all child processes.
        work(top / "warm", data)
        started = time.monotonic()
        names = straight_run(straight, data)
        duration = time.monotonic() - started
        points = [(moment, number) for number in range(1, len(names) + 1) for moment in ("before", "after")]
        if arguments:
            points = [(moment, number) for moment, number in points if f"{moment}:{names[number - 1]}" in arguments]
        results = []
        for moment, number in points:
            title = f"{moment} rename {number} of {len(names)} ({names[number - 1]})"
            task = partial(dying, root, data, moment, number, [])
            results.append(try_one(root, straight, data, title, partial(in_child, task)))
        count = 0
        while not arguments and (count < LEAST_RANDOM or sum(resumes for _, resumes, _ in results) < LEAST_RESUMED):
            after = rng.uniform(0.0, duration)
            kill = partial(in_child, partial(work, root, data), after)
            result = try_one(root, straight, data, f"after {after:.3f} s", kill)
            if result[0]:
                results.append(result)
                count += 1
    failures = sum(bool(wrong) for _, _, wrong in results)
    resumed = sum(resumes for _, resumes, _ in results)
    late = len(results) - resumed
    say(f"{len(results)} kills, {resumed} resumed, {late} before the first state, {failures} failures")
    return failures if results else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
