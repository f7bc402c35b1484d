"""Everything that only a GPU can show: ``python run.py gpu``.

Runs the GPU tests; measures time and peak memory of training steps on full-size models with random weights, ours and
those of plain loops with diffusers and peft, in the same process; lists where a step waits for the GPU; compares the
precisions on the embedded small model; and runs the demo. Writes ``gpu.json`` and ``gpu.md`` after each section.

``--trial`` runs every section on the embedded small model with few steps, also without a GPU.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.full_size import random_networks, small_networks, write_images
from benchmarks.gpu.loops import PeftLoop, PivotalPeftLoop, bare_step, captured_step, engine_step
from benchmarks.gpu.measure import measure, release
from benchmarks.gpu.precision import compare_precisions
from benchmarks.gpu.table import as_text
from benchmarks.gpu.waits import busy_share, waits_per_step
from lib_pivotal.host.diffusers.model import DiffusersModel
from lib_pivotal.host.diffusers.networks import Networks

_ROOT = Path(__file__).resolve().parents[2]
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_UNTIMED = ("tests", "precision", "demo")
"""Sections that run at the same time, in processes of their own."""
_TIMED = ("steps", "waits")
_CASES = (("sd1", 512, 1), ("sdxl", 1024, 1), ("sd1", 512, 4))
"""Family, side in px, batch size."""


class Program:
    """Runs the sections and keeps their results.

    Args:
        out: folder of the results.
        device: what to measure.
        is_trial: few steps on the small model.
    """

    def __init__(self, out: Path, device: torch.device, *, is_trial: bool) -> None:
        self._out, self._device, self._is_trial = out, device, is_trial
        self._writing = threading.Lock()
        on_gpu = device.type == "cuda"
        self._counts = {"warm_up": 1, "rounds": 1, "steps": 1} if is_trial else {"warm_up": 8, "rounds": 3, "steps": 2}
        self._cases = (("sd1", 64, 1),) if is_trial else _CASES
        self._precisions = ("fp16", "bf16") if on_gpu else ("bf16",)
        self.results: dict[str, Any] = {
            "device": torch.cuda.get_device_name() if on_gpu else "cpu",
            "torch": torch.__version__,
            **{name: _version(name) for name in ("diffusers", "transformers", "peft")},
            "failed": {},
        }

    def section(self, name: str, work: Callable[[Path], Any]) -> None:
        """Run one section; one that fails does not stop the others."""
        started = time.perf_counter()
        _say(f"== {name}")
        with tempfile.TemporaryDirectory() as folder:
            try:
                self.results[name] = work(Path(folder))
            except Exception as error:
                traceback.print_exc()
                self.results["failed"][name] = f"{type(error).__name__}: {error}"
        release()
        _say(f"{name}: {time.perf_counter() - started:.0f} s")
        self.write()

    def write(self) -> None:
        """Write what there is so far."""
        with self._writing:
            self._out.mkdir(parents=True, exist_ok=True)
            (self._out / "gpu.json").write_text(json.dumps(self.results, indent=1), encoding="utf-8")
            (self._out / "gpu.md").write_text(as_text(self.results) + "\n", encoding="utf-8")

    def steps(self, folder: Path) -> list[dict[str, Any]]:
        """Time and memory of every step."""
        rows: list[dict[str, Any]] = self.results.setdefault("steps", [])
        for family, side, batch in self._cases:
            data = write_images(folder / f"{family}-{batch}", side)
            networks = self._networks(family, folder)
            for precision in self._precisions:
                name = f"{family} {side} px, batch {batch}"
                for what, run in self._variants(networks, precision, data, folder / "cache", side, batch).items():
                    rows.append({"model": name, "precision": precision, "what": what, **self._row(run)})
                    self.write()
            del networks
            release()
        return rows

    def _networks(self, family: str, folder: Path) -> Networks:
        return small_networks(folder / "model") if self._is_trial else random_networks(family, self._device)

    def _variants(
        self, networks: Networks, precision: str, data: Path, cache: Path, side: int, batch: int
    ) -> dict[str, Callable[[], dict[str, Any]]]:
        """What is measured, in order; peft's loops come last, because they change the networks."""

        def model() -> DiffusersModel:
            made = DiffusersModel(networks, clip_skip=1, dtype=_DTYPES[precision], device=self._device)
            made.offloading.offload("vae")
            return made

        def engine(memory: str, *, graphs: bool = False) -> dict[str, Any]:
            with engine_step(model(), data, cache, side, batch, memory, graphs=graphs) as (step, trained):
                return {**self._measured(step), "trained": trained}

        def peft(loop_class: type[PeftLoop], *, checkpoints: bool) -> dict[str, Any]:
            loop = loop_class(model(), side, batch, checkpoints=checkpoints)
            try:
                return {**self._measured(loop.step), "trained": loop.trained_count}
            finally:
                loop.remove()

        variants: dict[str, Callable[[], dict[str, Any]]] = {
            "bare UNet": lambda: self._measured(bare_step(model(), side, batch)),
            "bare UNet, CUDA graph": lambda: self._measured(captured_step(model(), side, batch)),
            "ours, LoRA and embeddings": lambda: engine("fast"),
            "ours, CUDA graph": lambda: engine("fast", graphs=True),
            "ours, keeping less": lambda: engine("less"),
            "ours, keeping least": lambda: engine("least"),
            "ours, saving memory": lambda: engine("save"),
            "peft, LoRA only": lambda: peft(PeftLoop, checkpoints=False),
            "peft, LoRA only, checkpointing": lambda: peft(PeftLoop, checkpoints=True),
            "peft, LoRA and tokens": lambda: peft(PivotalPeftLoop, checkpoints=False),
        }
        if self._device.type != "cuda":
            del variants["bare UNet, CUDA graph"], variants["ours, CUDA graph"]
        return variants

    def _measured(self, step: Callable[[], object]) -> dict[str, Any]:
        return dict(vars(measure(step, self._device, **self._counts)))

    def _row(self, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """One measurement, or what went wrong: a peer that is missing or fails must not end the program."""
        try:
            return run()
        except Exception as error:
            traceback.print_exc()
            return {"problem": f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"}
        finally:
            release()

    def waits(self, folder: Path) -> dict[str, Any]:
        """Synchronizing calls of the engine's step and its use of the GPU; the latter is a result of its own."""
        found: dict[str, Any] = {}
        busy = self.results["busy"] = {}
        for family, side, batch in self._cases:
            if batch > 1:
                continue
            data = write_images(folder / f"data-{family}", side)
            networks = self._networks(family, folder)
            model = DiffusersModel(networks, clip_skip=1, dtype=torch.float16, device=self._device)
            with engine_step(model, data, folder / "cache", side, batch, "fast") as (step, _):
                for _ in range(5):
                    step()
                found[family] = waits_per_step(step, 10)
                busy[family] = busy_share(step, 5)
            del model, networks
            release()
        return found

    def precision(self, folder: Path) -> dict[str, Any]:
        """The embedded small model in every precision."""
        return compare_precisions(folder, self._device.type, 4 if self._is_trial else 300)

    def tests(self, folder: Path) -> dict[str, Any]:
        """The tests that need a GPU."""
        return self._program("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu")

    def demo(self, folder: Path) -> dict[str, Any]:
        """The demo from one end to the other."""
        steps = ["--steps", "4"] if self._is_trial else []
        result = self._program("-m", "lib_pivotal.demo", "--out", str(folder / "demo"), *steps)
        text = folder / "demo" / "result.md"
        if text.exists():
            result["result"] = text.read_text(encoding="utf-8")
            (self._out / "demo.png").write_bytes((folder / "demo" / "result.png").read_bytes())
        return result

    def _program(self, *arguments: str) -> dict[str, Any]:
        started = time.perf_counter()
        process = subprocess.run(
            [sys.executable, *arguments], cwd=_ROOT, capture_output=True, text=True, encoding="utf-8", check=False
        )
        output = (process.stdout + process.stderr).strip()
        _say(output[-3000:])
        verdict = "passed" if process.returncode == 0 else f"FAILED ({process.returncode})"
        return {"verdict": verdict, "seconds": time.perf_counter() - started, "output": output[-20_000:]}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the sections; returns the exit code."""
    names = [*_UNTIMED, *_TIMED]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(names)}; default: all")
    parser.add_argument("--out", type=Path, default=Path("gpu-out"), help="folder for the results")
    parser.add_argument("--trial", action="store_true", help="few steps on the small model, also without a GPU")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    if not on_gpu and not options.trial:
        _say("No GPU was found. --trial tries the program without one.")
        return 1
    if unknown := set(options.sections) - set(names):
        parser.error(f"There is no section {', '.join(sorted(unknown))}. Choose from {', '.join(names)}.")
    chosen = [name for name in names if name in (options.sections or names)]
    if not on_gpu:
        # Only CUDA has tests of its own and reports what it waits for; the demo without a GPU has a command of its own.
        chosen = [name for name in chosen if name in ("precision", "steps")]
        # Networks this small finish before a second thread has started.
        torch.set_num_threads(1)
    program = Program(options.out, torch.device("cuda" if on_gpu else "cpu"), is_trial=options.trial)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for name in chosen:
            if name in _UNTIMED:
                pool.submit(program.section, name, getattr(program, name))
    for name in chosen:
        if name in _TIMED:
            program.section(name, getattr(program, name))
    _say(as_text(program.results))
    good = not program.results["failed"] and all(
        program.results[name]["verdict"] == "passed" for name in ("tests", "demo") if name in program.results
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
