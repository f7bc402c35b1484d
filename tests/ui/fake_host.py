"""A webui that implements ``app.ports.AppHost`` and nothing else, and engines of a few milliseconds."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from lib_pivotal.app.bundle_library import ToolResult
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.errors import BundleError, Problem
from lib_pivotal.core.events import Finished, Prepared, Preparing, SampleReady, Saved, StepDone, Warned
from lib_pivotal.core.ports import Sample
from lib_pivotal.core.train.memory_estimate import DeviceMemory

__all__ = ["FakeBundleLibrary", "FakeComparison", "FakeHost", "GatedEngine", "good_config", "write_images"]


class _Sink:
    def __init__(self, events: list) -> None:
        self._events = events

    def handle(self, event) -> None:
        self._events.append(event)


class FakeComparison:
    """A webui that "makes" images in one color; the gate, if there is one, holds up each image."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.aliases: dict[str, str] = {}
        self.titles = ["base.safetensors [1]", "other.safetensors [2]"]
        self.families: dict[str, str] = {}
        self.made: list[tuple[str, str]] = []
        self.drawn: list[tuple[list[str], list[list[str]]]] = []
        self.interrupted: list[str] = []
        self.gate: threading.Semaphore | None = None
        self.error: Exception | None = None
        self.is_closed = False

    def checkpoints(self) -> list[str]:
        return list(self.titles)

    def selected_checkpoint(self) -> str:
        return self.titles[0]

    def family(self, checkpoint: str) -> str:
        return self.families.get(checkpoint, "")

    def label_of(self, path: Path) -> str:
        return self.aliases.get(path.stem, path.stem)

    def output_folder(self) -> Path:
        return self._folder / "grids"

    def images(self, requests, should_stop):
        self.is_closed = False
        try:
            for checkpoint, request in requests:
                while self.gate is not None and not self.gate.acquire(timeout=0.02) and not should_stop():
                    pass
                if should_stop():
                    return
                if self.error is not None:
                    raise self.error
                self.made.append((checkpoint, request.prompt))
                image = Image.new("RGB", (request.width, request.height), (len(self.made) % 255, 90, 160))
                yield Sample(image, f"{request.prompt} Seed: {request.seed}")
        finally:
            self.is_closed = True

    def interrupt(self, task_id: str) -> None:
        self.interrupted.append(task_id)

    def draw(self, images, columns, rows) -> Image.Image:
        assert len(images) == len(columns) * len(rows)
        self.drawn.append((list(columns), [list(lines) for lines in rows]))
        grid = Image.new("RGB", (len(columns) * 8, len(rows) * 8))
        for number, image in enumerate(images):
            grid.paste(image.resize((8, 8)), (number % len(columns) * 8, number // len(columns) * 8))
        return grid


class _Lent:
    model = "the model"
    sampler = "the sampler"


class FakeCaptioner:
    """Describes images by their size; ``gate`` is released once for each image by tests that want to watch."""

    name = "Fake <program>"
    download = "1 GB"

    def __init__(self, queue: threading.Lock) -> None:
        self._queue = queue
        self.gate: threading.Semaphore | None = None
        self.error: Exception | None = None
        self.log: list[str] = []

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Image.Image], str]]:
        assert self._queue.locked(), "opened outside the queue"
        self.log.append("open")
        try:
            yield self._describe
        finally:
            self.log.append("close")

    def _describe(self, image: Image.Image) -> str:
        assert image.mode == "RGB"
        if self.gate is not None:
            assert self.gate.acquire(timeout=5)
        if self.error is not None:
            raise self.error
        self.log.append("image")
        return f"zog, width {image.width},\n square"


class FakeHost:
    """Records what was requested; ``queue`` is held by whoever generates."""

    name = "Fake 1.0"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.queue = threading.Lock()
        self.events: list = []
        self.written: list[Path] = []
        self.obstacles: list[Problem] = []
        self.memory: DeviceMemory | None = None
        self.log: list[str] = []
        self.captioner = FakeCaptioner(self.queue)
        self.compare = FakeComparison(folder)
        (folder / "Lora").mkdir(parents=True, exist_ok=True)

    def lora_folder(self) -> Path:
        return self._folder / "Lora"

    def data_root(self) -> Path:
        return self._folder / "pivotal-tuning"

    def taken_names(self) -> dict[str, str]:
        return {"taken": "taken.pt"}

    def tokenizer(self) -> Callable[[str], list[int]] | None:
        return None

    def family(self, config: TrainConfig) -> str:
        return "sd1"

    def device_memory(self, config: TrainConfig) -> DeviceMemory | None:
        return self.memory

    def problems(self, config: TrainConfig) -> list[Problem]:
        return list(self.obstacles)

    @contextlib.contextmanager
    def exclusive(self, task_id: str) -> Iterator[_Sink]:
        assert task_id.startswith("task(")
        assert task_id.endswith(")")
        with self.queue:
            self.log.append("enter queue")
            try:
                yield _Sink(self.events)
            finally:
                self.log.append("leave queue")

    @contextlib.contextmanager
    def borrow(self, config, control) -> Iterator[_Lent]:
        assert self.queue.locked(), "borrowed outside the queue"
        self.log.append("borrow")
        try:
            yield _Lent()
        finally:
            self.log.append("give back")

    def bundle_written(self, path: Path) -> None:
        assert self.queue.locked(), "called outside the queue"
        assert path.exists()
        self.written.append(path)

    def captioners(self) -> list[FakeCaptioner]:
        return [self.captioner]

    def comparison(self) -> FakeComparison:
        return self.compare


class GatedEngine:
    """An engine whose every step waits for the test, or that runs through.

    Args:
        gated: wait for :meth:`allow` before each step.
        error: raised after two steps.
    """

    def __init__(self, *, gated: bool = False, error: Exception | None = None) -> None:
        self._gate = threading.Semaphore(0) if gated else None
        self._error = error
        self.configs: list[TrainConfig] = []
        self.saves = 0

    def allow(self, steps: int) -> None:
        for _ in range(steps):
            self._gate.release()

    def __call__(self, config, borrowed, sinks, control, places, taken_names, checked, resume_from=None) -> None:
        assert (borrowed.model, borrowed.sampler) == ("the model", "the sampler")
        assert not checked.has_errors
        assert taken_names == {"taken": "taken.pt"}
        self.configs.append(config)

        def emit(event) -> None:
            for sink in sinks:
                sink.handle(event)

        emit(Preparing("latents", 1, 2))
        total = config.steps or 10
        emit(Prepared(0, total, 1000))
        self._sample(emit, places, 0)
        step = 0
        while step < total and not control.stop_requested:
            if self._gate is not None and not self._gate.acquire(timeout=0.02):
                continue
            step += 1
            emit(StepDone(step, 1.0 / step, {}, {}, {}, 0.01))
            self.saves += control.take_save()
            if control.take_sample():
                self._sample(emit, places, step)
            if step == 2 and self._error is not None:
                emit(Warned("<b>careful</b>"))
                raise self._error
        if control.discard_requested:
            emit(Finished(step, "discarded", None))
            return
        path = places.bundles / f"{config.output_name}.safetensors"
        path.write_bytes(b"bundle")
        emit(Saved(step, "bundle", path))
        emit(Finished(step, "done" if step == total else "stopped", path))

    def _sample(self, emit, places, step: int) -> None:
        image = Image.new("RGB", (32, 32), (step % 255, 90, 160))
        emit(SampleReady(step, 0, "zog <on> a hill", image, "zog"))
        (places.run / "samples").mkdir(exist_ok=True)
        image.save(places.run / "samples" / f"step-{step:06d}-0.png")


class FakeBundleLibrary:
    """What ``app.bundle_library.BundleLibrary`` offers, without files: records what was requested."""

    def __init__(self) -> None:
        self.files = ["people/x", "y"]
        self.calls: list[tuple] = []

    def bundles(self) -> list[str]:
        return list(self.files)

    def embedding_files(self) -> list[str]:
        return ["hat.safetensors", "coat.pt"]

    def describe(self, name: str) -> dict:
        self._require(name)
        embeddings = {
            "zog <b>": {"clip_l": {"vectors": 2, "width": 768, "norms": [0.4, 0.5]}},
            "nim": {
                "clip_l": {"vectors": 3, "width": 768, "norms": [0.4] * 3},
                "clip_g": {"vectors": 3, "width": 1280, "norms": [1.25] * 3},
            },
        }
        return {
            "file": name,
            "kind": "LoRA + embeddings",
            "family": "SD1",
            "lora": {
                "layers": 4,
                "kinds": [{"kind": "LoRA", "layers": 4, "read_by": "all webuis"}],
                "ranks": {"16": 4},
                "alphas": [8.0],
                "parts": {"unet": 4},
                "keys": [],
            },
            "embeddings": embeddings,
            "families": {"zog <b>": "SD1", "nim": "SDXL"},
            "hashes": {"zog <b>": "abc123", "nim": "def456"},
            "core_tags": {"zog <b>": ["red <i>hair</i>"]},
            "unknown_keys": [],
            "problems": ["odd: <i>one</i>"],
            "metadata": {"ss_note": "<script>", "long": "x" * 5000, "pivotal_bundle": {"version": 1}},
        }

    def verify(self, name: str) -> list[Problem]:
        self._require(name)
        return [Problem("nim", "warning", "It is long.", "Shorten it.")] if name == "y" else []

    def rename(self, *arguments) -> ToolResult:
        return self._do("rename", *arguments)

    def remove(self, *arguments) -> ToolResult:
        return self._do("remove", *arguments)

    def merge(self, *arguments) -> ToolResult:
        return self._do("merge", *arguments)

    def pack(self, *arguments) -> ToolResult:
        return self._do("pack", *arguments)

    def split(self, *arguments) -> ToolResult:
        self._do("split", *arguments)
        return ToolResult("", [Path("split/x/zog.safetensors")], [])

    def _do(self, tool: str, name: str, *rest) -> ToolResult:
        self._require(name)
        self.calls.append((tool, name, *rest))
        self.files.append("new")
        return ToolResult("new", [Path("Lora/new.safetensors")], [Problem("nim", "warning", "Mind <it>.", "Look.")])

    def _require(self, name: str) -> None:
        if name not in self.files:
            raise BundleError(f"There is no file {name} any more.", hint="Refresh the list.")


def write_images(folder: Path, count: int = 6) -> Path:
    """Different images with captions that name the concept."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image = Image.new("RGB", (64, 64), (40 * index, 200 - 30 * index, 90))
        for at in range(64):
            image.putpixel((at, (at * (index + 2)) % 64), (255, 255, 255))
        image.save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"zog, number {index}")
    return folder


def good_config(images: Path, **changes) -> TrainConfig:
    """Settings in which the checks find no error."""
    values = {
        "concepts": (Concept("zog", init_text="hill"),),
        "data_folder": str(images),
        "resolution": 64,
        "steps": 6,
        "output_name": "zog-bundle",
    }
    return TrainConfig(**{**values, **changes})
