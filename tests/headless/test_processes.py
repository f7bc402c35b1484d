"""Several processes train one model: they equal one process, end together, and can be resumed in another number."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lib_pivotal.cli.main import main
from lib_pivotal.core.train.recorder import read_losses
from lib_pivotal.core.train.state import load_newest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
_CONTEXT = multiprocessing.get_context("fork") if sys.platform != "win32" else None


@pytest.fixture
def steady(settings) -> Callable[..., Path]:
    """Writes settings whose learning rates do not depend on the number of steps."""
    fixed = {"lora_start": 0.0, "schedule": "constant", "warmup": 0.0, "steps": 4}
    # Low rates, because the differences in last digits grow with them.
    fixed |= {"unet_lr": 2e-5, "embedding_lr": 7e-4}
    return lambda **values: settings(**{**fixed, **values})


def in_process(arguments: list[str], environment: dict[str, str], output: Path) -> None:
    """One of the processes that a launcher would start."""
    os.environ.update(environment)
    with output.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        code = main(arguments)
    sys.exit(code)


def start(count: int, arguments: list[str], folder: Path) -> list:
    """Start ``count`` processes, each with the environment that a launcher gives it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for rank in range(count):
        environment = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        output = folder / f"output-{rank}.txt"
        started.append(_CONTEXT.Process(target=in_process, args=(arguments, environment, output)))
        started[-1].start()
    return started


def train(count: int, arguments: list[str], folder: Path) -> None:
    """Train in ``count`` processes to a good end."""
    processes = start(count, [*arguments, "--device", "cpu"], folder)
    for process in processes:
        process.join(240)
    codes = [process.exitcode for process in processes]
    assert codes == [0] * count, [(folder / f"output-{rank}.txt").read_text() for rank in range(count)]


def losses_of(out: Path) -> list[float]:
    (run,) = (out / "runs").iterdir()
    return [loss for _, loss in read_losses(run)]


def test_any_number_of_processes_learns_the_same_and_continues_as_any_other(steady, tmp_path):
    outs = {name: tmp_path / name for name in ("one", "two", "four")}
    train(1, ["train", str(steady(batch_size=4)), "--out", str(outs["one"])], tmp_path)
    train(2, ["train", str(steady(batch_size=1, accumulation=2)), "--out", str(outs["two"])], tmp_path)
    train(4, ["train", str(steady(batch_size=1, steps=2)), "--out", str(outs["four"])], tmp_path)
    expected = losses_of(outs["one"])
    assert len(expected) == 4
    # Latents that were encoded in other batches differ in their last digits, which the first steps of Adam enlarge.
    assert losses_of(outs["two"]) == pytest.approx(expected, rel=1e-3)
    assert losses_of(outs["four"]) == pytest.approx(expected[:2], rel=1e-3)
    (run,) = (outs["four"] / "runs").iterdir()
    for count, steps in ((2, 3), (1, 4)):
        longer = str(steady(batch_size=1, steps=steps))
        train(count, ["train", longer, "--resume", str(run)], tmp_path)
    assert losses_of(outs["four"]) == pytest.approx(expected, rel=1e-3)


def test_torchrun_starts_processes_that_learn_what_one_does(steady, tmp_path):
    outs = [tmp_path / name for name in ("one", "two")]
    train(1, ["train", str(steady(batch_size=2, steps=2)), "--out", str(outs[0])], tmp_path)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    config = str(steady(batch_size=1, steps=2))
    command = [*launcher, "-m", "lib_pivotal", "train", config, "--out", str(outs[1]), "--device", "cpu"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert losses_of(outs[1]) == pytest.approx(losses_of(outs[0]), rel=1e-3)


def test_names_are_kept_in_two_processes_as_in_one(steady, tmp_path):
    train(1, ["train", str(steady(batch_size=1, steps=1)), "--out", str(tmp_path / "old")], tmp_path)
    added = {
        "start_from": str(tmp_path / "old" / "hero.safetensors"),
        "keep_names": 10.0,
        "unet_lr": 1e-3,
        "concepts": [{"name": "mib_y", "vectors": 1, "aliases": ["left"], "stop_at": 1.0}],
    }
    for count, batch_size in ((1, 8), (2, 4)):
        out = str(tmp_path / f"out-{count}")
        train(count, ["train", str(steady(batch_size=batch_size, **added)), "--out", out], tmp_path)
    one, two = losses_of(tmp_path / "out-1"), losses_of(tmp_path / "out-2")
    # Each step makes a difference of rounding a hundred times larger.
    assert len(one) == 4 and two[:3] == pytest.approx(one[:3], rel=2e-4)


def test_a_number_of_processes_that_the_samples_cannot_be_divided_among_is_refused(steady, tmp_path):
    out = tmp_path / "out"
    train(1, ["train", str(steady(batch_size=2, steps=1)), "--out", str(out)], tmp_path)
    (run,) = (out / "runs").iterdir()
    processes = start(3, ["train", str(steady(batch_size=2)), "--resume", str(run), "--device", "cpu"], tmp_path)
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [2, 2, 2]
    message = (tmp_path / "output-0.txt").read_text()
    assert "has 2 samples" in message and "numbers of processes: 1, 2" in message
    assert len(losses_of(out)) == 1


@pytest.mark.parametrize(("killed", "save_every"), [(1, 0), (0, 0), (0, 1)])
def test_a_killed_process_ends_all_of_them_and_what_was_trained_or_saved_is_kept(steady, tmp_path, killed, save_every):
    out, config = tmp_path / "out", str(steady(batch_size=1, steps=5000, save_every=save_every))
    processes = start(2, ["train", config, "--out", str(out), "--device", "cpu"], tmp_path)
    deadline = time.monotonic() + 240
    while not list(out.glob("runs/*/loss.csv")) or len(losses_of(out)) < 2:
        assert time.monotonic() < deadline and all(process.is_alive() for process in processes)
        time.sleep(0.1)
    left = 1 - killed
    os.kill(processes[killed].pid, signal.SIGKILL)
    processes[left].join(120)
    assert processes[left].exitcode == 2
    (run,) = (out / "runs").iterdir()
    # Only the first process writes.
    if killed == 0 and not save_every:
        assert not list(run.glob("states/*")) and not list(out.glob("*.safetensors"))
    else:
        assert load_newest(run / "states").step >= (1 if save_every else 2)
        assert (out / "hero.safetensors").exists() == (killed == 1)
    message = (tmp_path / f"output-{left}.txt").read_text()
    # It also is the only one that reports; the launcher says which process was killed.
    assert ("Another process of this run has ended" in message) == (killed == 1) and "Traceback" not in message
